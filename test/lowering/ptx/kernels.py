"""Thread-level kernels, written by hand, that the tests print, assemble and run."""

from collections.abc import Sequence

from xdsl.context import Context
from xdsl.dialects.arith import Arith
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.gpu import GPU
from xdsl.dialects.llvm import LLVM
from xdsl.dialects.math import Math
from xdsl.dialects.scf import Scf
from xdsl.dialects.vector import Vector
from xdsl.parser import Parser

from tilewright.dialects.nvvm import NVVM


def context() -> Context:
    """Returns a context with the dialects of the thread level."""
    result = Context()
    for dialect in (Builtin, Arith, GPU, LLVM, Math, Scf, Vector, NVVM):
        result.load_dialect(dialect)
    return result


def module(parameters: str, body: str, threads: int = 32, shared: str = "") -> ModuleOp:
    """
    Returns a verified module of one kernel `@k`.

    `parameters` is written as in a function, `%a: i32, %b: f32`; `shared` names a shared
    variable `@smem` by its type, such as `!llvm.array<0 x i8>`.
    """
    types = ", ".join(p.split(":", 1)[1].strip() for p in parameters.split(", ") if p)
    variable = (
        '"llvm.mlir.global"() <{addr_space = 3 : i32, alignment = 1024 : i64,'
        f" global_type = {shared}, linkage = #llvm.linkage<external>,"
        ' sym_name = "smem", visibility_ = 0 : i64}> ({}) : () -> ()'
        if shared
        else ""
    )
    text = f"""
    builtin.module attributes {{gpu.container_module}} {{
      "gpu.module"() <{{sym_name = "kernels"}}> ({{
        {variable}
        "gpu.func"() <{{function_type = ({types}) -> (), kernel}}> ({{
        ^bb0({parameters}):
          {body}
          "gpu.return"() : () -> ()
        }}) {{sym_name = "k", known_block_size = array<i32: {threads}, 1, 1>}} : () -> ()
      }}) : () -> ()
    }}
    """
    result = Parser(context(), text).parse_module()
    result.verify()
    return result


THREAD = """
%thread_x = "gpu.thread_id"() <{dimension = #gpu<dim x>}> : () -> index
%tid = arith.index_cast %thread_x : index to i32
%block_x = "gpu.block_id"() <{dimension = #gpu<dim x>}> : () -> index
%cta = arith.index_cast %block_x : index to i32
"""


_BYTES = {"i8": 1, "i16": 2, "f16": 2, "bf16": 2, "i32": 4, "f32": 4, "i64": 8, "f64": 8}


def elementwise(code: str, inputs: Sequence[str], output: str) -> ModuleOp:
    """
    Applies `code` to arrays element by element, 32 elements a CTA.

    The code names its inputs `%a`, `%b`, `%c`, of the scalar types `inputs`, and its result `%r`.
    The kernel's parameters are the inputs' pointers, then the output's.
    """
    names = "abc"[: len(inputs)]
    loads = "".join(
        f"""
        %size_{name} = arith.constant {_BYTES[kind]} : i32
        %offset_{name} = arith.muli %index, %size_{name} : i32
        %at_{name} = "llvm.getelementptr"(%p_{name}, %offset_{name}) <{{elem_type = i8,
          noWrapFlags = 0 : i32, rawConstantIndices = array<i32: -2147483648>}}>
          : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
        %{name} = "llvm.load"(%at_{name}) <{{ordering = 0 : i64}}> : (!llvm.ptr<1>) -> {kind}
        """
        for name, kind in zip(names, inputs)
    )
    parameters = ", ".join(f"%p_{name}: !llvm.ptr<1>" for name in [*names, "r"])
    return module(
        parameters,
        f"""
        {THREAD}
        %c32 = arith.constant 32 : i32
        %first = arith.muli %cta, %c32 : i32
        %index = arith.addi %first, %tid : i32
        {loads}
        {code}
        %size_r = arith.constant {_BYTES[output]} : i32
        %offset_r = arith.muli %index, %size_r : i32
        %at_r = "llvm.getelementptr"(%p_r, %offset_r) <{{elem_type = i8, noWrapFlags = 0 : i32,
          rawConstantIndices = array<i32: -2147483648>}}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
        "llvm.store"(%r, %at_r) <{{ordering = 0 : i64}}> : ({output}, !llvm.ptr<1>) -> ()
        """,
    )


_VECTOR_ADD = """
%c128 = arith.constant 128 : i32
%c4 = arith.constant 4 : i32
%c16 = arith.constant 16 : i32
%block = arith.muli %cta, %c128 : i32
%index = arith.addi %block, %tid : i32
%first = arith.muli %index, %c4 : i32
%last = arith.addi %first, %c4 : i32
%whole = arith.cmpi sle, %last, %n : i32
scf.if %whole {
  %bytes = arith.muli %index, %c16 : i32
  %px = "llvm.getelementptr"(%x, %bytes) <{elem_type = i8, noWrapFlags = 0 : i32,
    rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
  %py = "llvm.getelementptr"(%y, %bytes) <{elem_type = i8, noWrapFlags = 0 : i32,
    rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
  %pz = "llvm.getelementptr"(%z, %bytes) <{elem_type = i8, noWrapFlags = 0 : i32,
    rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
  %vx = "llvm.load"(%px) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> vector<4xf32>
  %vy = "llvm.load"(%py) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> vector<4xf32>
  %vz = arith.addf %vx, %vy : vector<4xf32>
  "llvm.store"(%vz, %pz) <{ordering = 0 : i64}> : (vector<4xf32>, !llvm.ptr<1>) -> ()
} else {
  %one = arith.constant 1 : i32
  scf.for %i = %first to %n step %one : i32 {
    %px = "llvm.getelementptr"(%x, %i) <{elem_type = f32, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
    %py = "llvm.getelementptr"(%y, %i) <{elem_type = f32, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
    %pz = "llvm.getelementptr"(%z, %i) <{elem_type = f32, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
    %vx = "llvm.load"(%px) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> f32
    %vy = "llvm.load"(%py) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> f32
    %vz = arith.addf %vx, %vy : f32
    "llvm.store"(%vz, %pz) <{ordering = 0 : i64}> : (f32, !llvm.ptr<1>) -> ()
  }
}
"""


def vector_add() -> ModuleOp:
    """Adds two f32 arrays, four elements a thread and one at a time in the tail."""
    return module(
        "%x: !llvm.ptr<1>, %y: !llvm.ptr<1>, %z: !llvm.ptr<1>, %n: i32",
        THREAD + _VECTOR_ADD,
        threads=128,
    )


_ROW_LOAD = """
%all = arith.constant -1 : i32
%clamp = arith.constant 31 : i32
%c512 = arith.constant 512 : i32
%c16 = arith.constant 16 : i32
%row = arith.muli %cta, %c512 : i32
%column = arith.muli %tid, %c16 : i32
%bytes = arith.addi %row, %column : i32
%px = "llvm.getelementptr"(%x, %bytes) <{elem_type = i8, noWrapFlags = 0 : i32,
  rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
%py = "llvm.getelementptr"(%y, %bytes) <{elem_type = i8, noWrapFlags = 0 : i32,
  rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>
%v = "llvm.load"(%px) <{ordering = 0 : i64}> : (!llvm.ptr<1>) -> vector<4xf32>
%m0 = vector.reduction <maximumf>, %v : vector<4xf32> into f32
"""

_ROW_EXP2 = """
%log2e = arith.constant 1.44269504 : f32
%scale = vector.broadcast %log2e : f32 to vector<4xf32>
%top = vector.broadcast %m5 : f32 to vector<4xf32>
%d = arith.subf %v, %top : vector<4xf32>
%z = arith.mulf %d, %scale : vector<4xf32>
%e = math.exp2 %z fastmath<afn> : vector<4xf32>
%s0 = vector.reduction <add>, %e : vector<4xf32> into f32
"""

_ROW_STORE = """
%whole = vector.broadcast %s5 : f32 to vector<4xf32>
%r = arith.divf %e, %whole : vector<4xf32>
"llvm.store"(%r, %py) <{ordering = 0 : i64}> : (vector<4xf32>, !llvm.ptr<1>) -> ()
"""


def softmax_rows() -> ModuleOp:
    """Computes the softmax of rows of 128 f32, one row a warp, four elements a lane."""
    exchange = "".join(
        f"""
        %o{step} = arith.constant {1 << step} : i32
        %m{step}s = nvvm.shfl.sync bfly %all, %m{step}, %o{step}, %clamp : f32 -> f32
        %m{step + 1} = arith.maximumf %m{step}, %m{step}s : f32
        """
        for step in range(5)
    )
    total = "".join(
        f"""
        %s{step}s = nvvm.shfl.sync bfly %all, %s{step}, %o{step}, %clamp : f32 -> f32
        %s{step + 1} = arith.addf %s{step}, %s{step}s : f32
        """
        for step in range(5)
    )
    return module(
        "%x: !llvm.ptr<1>, %y: !llvm.ptr<1>",
        THREAD + _ROW_LOAD + exchange + _ROW_EXP2 + total + _ROW_STORE,
    )


_LOAD_TILE = """
%{name}_src0 = "llvm.getelementptr"(%{pointer}, %{name}_from) <{{elem_type = i8,
  noWrapFlags = 0 : i32, rawConstantIndices = array<i32: -2147483648>}}>
  : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>
scf.for %i = %i0 to %i4 step %i1 {{
  %ii = arith.index_cast %i : index to i32
  %rows = arith.muli %ii, %c16 : i32
  %row = arith.addi %thread_row, %rows : i32
  %row64 = arith.extsi %row : i32 to i64
  %far = arith.muli %row64, %{pitch} : i64
  %source = "llvm.getelementptr"(%{name}_src0, %far) <{{elem_type = i8, noWrapFlags = 0 : i32,
    rawConstantIndices = array<i32: -2147483648>}}> : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>
  %line = arith.muli %row, %c128 : i32
  %in_stage = arith.addi %line, %thread_swizzled : i32
  %place = arith.addi %{name}_stage, %in_stage : i32
  %to = "llvm.getelementptr"(%smem, %place) <{{elem_type = i8, noWrapFlags = 0 : i32,
    rawConstantIndices = array<i32: -2147483648>}}> : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>
  nvvm.cp.async.shared.global %to, %source, 16, cache = cg : !llvm.ptr<3>, !llvm.ptr<1>
}} {{tilewright.unroll}}
"""


def _copy(step: str, stage: str) -> str:
    """Text that starts the copies of one K tile of A and B into a stage."""
    a = _LOAD_TILE.format(name="a", pointer="a", pitch="pitch_a")
    b = _LOAD_TILE.format(name="b", pointer="b", pitch="pitch_b")
    return f"""
    %a_stage = arith.muli %{stage}, %c16384 : i32
    %b_stage = arith.addi %a_stage, %c8192 : i32
    %k64 = arith.extsi %{step} : i32 to i64
    %a_k = arith.muli %k64, %c128l : i64
    %a_1 = arith.addi %a_k, %a_tile : i64
    %a_from = arith.addi %a_1, %thread_bytes : i64
    %b_64 = arith.muli %k64, %c64l : i64
    %b_k = arith.muli %b_64, %pitch_b : i64
    %b_1 = arith.addi %b_k, %b_tile : i64
    %b_from = arith.addi %b_1, %thread_bytes : i64
    {a}
    {b}
    nvvm.cp.async.commit.group
    """


_GEMM_SETUP = """
%b_y = "gpu.block_id"() <{dimension = #gpu<dim y>}> : () -> index
%cta_y = arith.index_cast %b_y : index to i32
%i0 = arith.constant 0 : index
%i1 = arith.constant 1 : index
%i4 = arith.constant 4 : index
%i8 = arith.constant 8 : index
%c0 = arith.constant 0 : i32
%c1 = arith.constant 1 : i32
%c2 = arith.constant 2 : i32
%c3 = arith.constant 3 : i32
%c4 = arith.constant 4 : i32
%c5 = arith.constant 5 : i32
%c7 = arith.constant 7 : i32
%c8 = arith.constant 8 : i32
%c15 = arith.constant 15 : i32
%c16 = arith.constant 16 : i32
%c32 = arith.constant 32 : i32
%c64 = arith.constant 64 : i32
%c128 = arith.constant 128 : i32
%c8192 = arith.constant 8192 : i32
%c16384 = arith.constant 16384 : i32
%c64l = arith.constant 64 : i64
%c128l = arith.constant 128 : i64
%c2l = arith.constant 2 : i64
%smem = "llvm.mlir.addressof"() <{global_name = @smem}> : () -> !llvm.ptr<3>
%thread_row = arith.divui %tid, %c8 : i32
%chunk = arith.remui %tid, %c8 : i32
%row_in_8 = arith.andi %thread_row, %c7 : i32
%swizzled = arith.xori %chunk, %row_in_8 : i32
%thread_swizzled = arith.muli %swizzled, %c16 : i32
%chunk_bytes = arith.muli %chunk, %c16 : i32
%thread_bytes = arith.extsi %chunk_bytes : i32 to i64
%n64 = arith.extsi %n : i32 to i64
%depth64 = arith.extsi %depth : i32 to i64
%pitch_a = arith.muli %depth64, %c2l : i64
%pitch_b = arith.muli %n64, %c2l : i64
%row0 = arith.muli %cta_y, %c64 : i32
%row0l = arith.extsi %row0 : i32 to i64
%a_tile = arith.muli %row0l, %pitch_a : i64
%column0 = arith.muli %cta, %c128 : i32
%b_tile = arith.extsi %column0 : i32 to i64
%steps = arith.divui %depth, %c64 : i32
%warp = arith.shrui %tid, %c5 : i32
%lane = nvvm.read.ptx.sreg.laneid : i32
%lane_15 = arith.andi %lane, %c15 : i32
%lane_hi = arith.shrui %lane, %c4 : i32
%lane_7 = arith.andi %lane, %c7 : i32
%warp_row = arith.muli %warp, %c16 : i32
%a_row = arith.addi %warp_row, %lane_15 : i32
%a_line = arith.muli %a_row, %c128 : i32
%b_line = arith.muli %lane_15, %c128 : i32
"""

# One K tile of 64: A fragments by ldmatrix, B by ldmatrix with transposition.
_GEMM_TILE = """
%r0 = arith.muli %stage, %c16384 : i32
%result = scf.for %kk = %i0 to %i4 step %i1 iter_args(%acc_k = %acc) -> (vector<8x4xf32>) {
  %k32 = arith.index_cast %kk : index to i32
  %kc = arith.muli %k32, %c2 : i32
  %a_chunk0 = arith.addi %kc, %lane_hi : i32
  %a_chunk = arith.xori %a_chunk0, %lane_7 : i32
  %a_off0 = arith.muli %a_chunk, %c16 : i32
  %a_off1 = arith.addi %a_off0, %a_line : i32
  %a_off = arith.addi %a_off1, %r0 : i32
  %pa = "llvm.getelementptr"(%smem, %a_off) <{elem_type = i8, noWrapFlags = 0 : i32,
    rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>
  %fa = nvvm.ldmatrix %pa {num = 4 : i32, layout = #nvvm.mma_layout<row>,
    shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>}
    : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
  %fa0 = "llvm.extractvalue"(%fa) <{position = array<i64: 0>}>
    : (!llvm.struct<(i32, i32, i32, i32)>) -> i32
  %fa1 = "llvm.extractvalue"(%fa) <{position = array<i64: 1>}>
    : (!llvm.struct<(i32, i32, i32, i32)>) -> i32
  %fa2 = "llvm.extractvalue"(%fa) <{position = array<i64: 2>}>
    : (!llvm.struct<(i32, i32, i32, i32)>) -> i32
  %fa3 = "llvm.extractvalue"(%fa) <{position = array<i64: 3>}>
    : (!llvm.struct<(i32, i32, i32, i32)>) -> i32
  %k_rows = arith.muli %k32, %c16 : i32
  %k_line = arith.muli %k_rows, %c128 : i32
  %acc_out = scf.for %nn = %i0 to %i8 step %i1 iter_args(%acc_n = %acc_k) -> (vector<8x4xf32>) {
    %n32 = arith.index_cast %nn : index to i32
    %b_chunk = arith.xori %n32, %lane_7 : i32
    %b_off0 = arith.muli %b_chunk, %c16 : i32
    %b_off1 = arith.addi %b_off0, %b_line : i32
    %b_off2 = arith.addi %b_off1, %k_line : i32
    %b_off3 = arith.addi %b_off2, %c8192 : i32
    %b_off = arith.addi %b_off3, %r0 : i32
    %pb = "llvm.getelementptr"(%smem, %b_off) <{elem_type = i8, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>
    %fb = nvvm.ldmatrix %pb {num = 2 : i32, layout = #nvvm.mma_layout<col>,
      shape = #nvvm.ld_st_matrix_shape<m = 8, n = 8>, eltType = #nvvm.ld_st_matrix_elt_type<b16>}
      : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32)>
    %fb0 = "llvm.extractvalue"(%fb) <{position = array<i64: 0>}> : (!llvm.struct<(i32, i32)>) -> i32
    %fb1 = "llvm.extractvalue"(%fb) <{position = array<i64: 1>}> : (!llvm.struct<(i32, i32)>) -> i32
    %ac0 = vector.extract %acc_n[%nn, 0] : f32 from vector<8x4xf32>
    %ac1 = vector.extract %acc_n[%nn, 1] : f32 from vector<8x4xf32>
    %ac2 = vector.extract %acc_n[%nn, 2] : f32 from vector<8x4xf32>
    %ac3 = vector.extract %acc_n[%nn, 3] : f32 from vector<8x4xf32>
    %d = nvvm.mma.sync A[%fa0, %fa1, %fa2, %fa3] B[%fb0, %fb1] C[%ac0, %ac1, %ac2, %ac3]
      {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>,
       multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>,
       shape = #nvvm.shape<m = 16, n = 8, k = 16>}
      : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
    %d0 = "llvm.extractvalue"(%d) <{position = array<i64: 0>}>
      : (!llvm.struct<(f32, f32, f32, f32)>) -> f32
    %d1 = "llvm.extractvalue"(%d) <{position = array<i64: 1>}>
      : (!llvm.struct<(f32, f32, f32, f32)>) -> f32
    %d2 = "llvm.extractvalue"(%d) <{position = array<i64: 2>}>
      : (!llvm.struct<(f32, f32, f32, f32)>) -> f32
    %d3 = "llvm.extractvalue"(%d) <{position = array<i64: 3>}>
      : (!llvm.struct<(f32, f32, f32, f32)>) -> f32
    %n0 = vector.insert %d0, %acc_n[%nn, 0] : f32 into vector<8x4xf32>
    %n1 = vector.insert %d1, %n0[%nn, 1] : f32 into vector<8x4xf32>
    %n2 = vector.insert %d2, %n1[%nn, 2] : f32 into vector<8x4xf32>
    %n3 = vector.insert %d3, %n2[%nn, 3] : f32 into vector<8x4xf32>
    scf.yield %n3 : vector<8x4xf32>
  } {tilewright.unroll}
  scf.yield %acc_out : vector<8x4xf32>
} {tilewright.unroll}
"""

_GEMM_STORE = """
%quad = arith.divui %lane, %c4 : i32
%pair = arith.remui %lane, %c4 : i32
%row1 = arith.addi %row0, %warp_row : i32
%row2 = arith.addi %row1, %quad : i32
%pair_bytes = arith.muli %pair, %c4 : i32
%out_bytes = arith.addi %column0, %pair_bytes : i32
%out_column = arith.extsi %out_bytes : i32 to i64
scf.for %nn = %i0 to %i8 step %i1 {
  %n32 = arith.index_cast %nn : index to i32
  %n_bytes = arith.muli %n32, %c16 : i32
  %n_bytes64 = arith.extsi %n_bytes : i32 to i64
  %i2 = arith.constant 2 : index
  scf.for %half = %i0 to %i2 step %i1 {
    %half32 = arith.index_cast %half : index to i32
    %down = arith.muli %half32, %c8 : i32
    %row3 = arith.addi %row2, %down : i32
    %row64 = arith.extsi %row3 : i32 to i64
    %line = arith.muli %row64, %pitch_b : i64
    %place0 = arith.addi %line, %out_column : i64
    %place = arith.addi %place0, %n_bytes64 : i64
    %to = "llvm.getelementptr"(%c, %place) <{elem_type = i8, noWrapFlags = 0 : i32,
      rawConstantIndices = array<i32: -2147483648>}> : (!llvm.ptr<1>, i64) -> !llvm.ptr<1>
    %first = arith.muli %half, %i2 : index
    %second = arith.addi %first, %i1 : index
    %x0 = vector.extract %sum[%nn, %first] : f32 from vector<8x4xf32>
    %x1 = vector.extract %sum[%nn, %second] : f32 from vector<8x4xf32>
    %zero2 = arith.constant dense<0.0> : vector<2xf32>
    %v0 = vector.insert %x0, %zero2[0] : f32 into vector<2xf32>
    %v1 = vector.insert %x1, %v0[1] : f32 into vector<2xf32>
    %packed = arith.truncf %v1 : vector<2xf32> to vector<2xbf16>
    "llvm.store"(%packed, %to) <{ordering = 0 : i64}> : (vector<2xbf16>, !llvm.ptr<1>) -> ()
  } {tilewright.unroll}
} {tilewright.unroll}
"""


def gemm() -> ModuleOp:
    """
    Multiplies bf16 matrices, A [m, depth] and B [depth, n] row-major, into bf16 C [m, n].

    A CTA of four warps makes a tile of 64x64; K tiles of 64 are double-buffered by cp.async in
    32768 bytes of dynamic shared memory. The grid is (n / 64, m / 64).
    """
    return module(
        "%a: !llvm.ptr<1>, %b: !llvm.ptr<1>, %c: !llvm.ptr<1>, %n: i32, %depth: i32",
        THREAD
        + _GEMM_SETUP
        + f"scf.if %always {{ {_copy('c0', 'c0')} }}".replace(
            "scf.if %always {", "%always = arith.constant true\nscf.if %always {"
        )
        + f"""
        %zero = arith.constant dense<0.0> : vector<8x4xf32>
        %sum = scf.for %step = %c0 to %steps step %c1 iter_args(%acc = %zero)
            -> (vector<8x4xf32>) : i32 {{
          %stage = arith.andi %step, %c1 : i32
          %next = arith.addi %step, %c1 : i32
          %next_stage = arith.andi %next, %c1 : i32
          %more = arith.cmpi slt, %next, %steps : i32
          scf.if %more {{ {_copy("next", "next_stage")}
          }} else {{
            nvvm.cp.async.commit.group
          }}
          nvvm.cp.async.wait.group 1
          "gpu.barrier"() : () -> ()
          {_GEMM_TILE}
          "gpu.barrier"() : () -> ()
          scf.yield %result : vector<8x4xf32>
        }}
        """
        + _GEMM_STORE,
        threads=128,
        shared="!llvm.array<0 x i8>",
    )
