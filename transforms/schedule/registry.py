"""Every schedule primitive that exists, by its name in text."""

from collections.abc import Mapping

from .add_unit_loop import AddUnitLoop
from .annotate import Annotate, Unannotate
from .bind import Bind
from .blockize import Blockize
from .caching import CacheInplace, CacheRead, CacheWrite
from .compute_at import ComputeAt, ReverseComputeAt
from .copies_at import ReadAt, WriteAt
from .decompose_padding import DecomposePadding
from .decompose_reduction import DecomposeReduction
from .fuse import Fuse
from .inlining import ComputeInline, ReverseComputeInline
from .kinds import Parallel, Unroll, Vectorize
from .layout import TransformBlockLayout, TransformLayout
from .loop_partition import LoopPartition
from .matricize import Matricize
from .merge import Merge
from .pad_einsum import PadEinsum
from .primitive import Primitive
from .reduction_epilogue import FuseReductionEpilogue
from .reindexing import Reindex, ReindexCacheRead, ReindexCacheWrite
from .reorder import Reorder, ReorderBlockAxes
from .rfactor import RFactor
from .rolling_buffer import RollingBuffer
from .software_pipeline import SoftwarePipeline
from .split import Split
from .storage import SetDtype, SetScope, StorageAlign
from .swizzle import SetSwizzle
from .tensorize import Tensorize

PRIMITIVES: Mapping[str, type[Primitive]] = {
    primitive.name: primitive
    for primitive in (
        AddUnitLoop,
        Annotate,
        Bind,
        Blockize,
        CacheInplace,
        CacheRead,
        CacheWrite,
        ComputeAt,
        ComputeInline,
        DecomposePadding,
        DecomposeReduction,
        Fuse,
        FuseReductionEpilogue,
        LoopPartition,
        Matricize,
        Merge,
        PadEinsum,
        Parallel,
        RFactor,
        ReadAt,
        Reindex,
        ReindexCacheRead,
        ReindexCacheWrite,
        Reorder,
        ReorderBlockAxes,
        ReverseComputeAt,
        ReverseComputeInline,
        RollingBuffer,
        SetDtype,
        SetScope,
        SetSwizzle,
        SoftwarePipeline,
        Split,
        StorageAlign,
        Tensorize,
        TransformBlockLayout,
        TransformLayout,
        Unannotate,
        Unroll,
        Vectorize,
        WriteAt,
    )
}
