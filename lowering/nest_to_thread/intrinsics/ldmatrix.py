"""`ldmatrix`: 8x8 matrices of 16-bit pairs from shared memory to the fragments of A and B."""

from xdsl.dialects.builtin import i32

from ....dialects import nvvm
from ....dialects.nest.intrinsics import Intrinsic
from ....dialects.sym import Expression
from ..thread import LANE_DIV_16, LANE_MOD_8, LANE_MOD_16, LANE_SECOND_8, Thread
from .operands import OperandView

_ROW_BYTES = 16


def load_matrices(thread: Thread, intrinsic: Intrinsic, operands: tuple[OperandView, ...]) -> None:
    """
    One ldmatrix. Lane `8*i + r` gives the address of row `r` of matrix `i`.

    The matrices are those of the fragment's registers in order: A has two of 8 rows one below the
    other, then the two behind them along k; B two along k, then those of the next 8 columns.
    """
    target, source = operands
    count = int(intrinsic.parameter("matrices"))
    transposed = _is_transposed(intrinsic)
    row, chunk = _first_of_lane(intrinsic, transposed)
    along = source.matrix_strides[0]
    step = _ROW_BYTES // source.buffer.element_bytes
    where = source.address(row * along + chunk * step)
    layout = nvvm.MMALayout.COL if transposed else nvvm.MMALayout.ROW
    loaded = thread.emit.result(nvvm.LdMatrixOp, where, count, layout)
    values = [thread.emit.field(loaded, matrix, i32) for matrix in range(count)]
    target.write_tiles(values)


def _is_transposed(intrinsic: Intrinsic) -> bool:
    """Whether a row in memory runs across the fragment's k: A as [k, m], B as [k, n]."""
    is_b, is_row = intrinsic.parameter("role") == "b", intrinsic.parameter("layout") == "row"
    return is_b == is_row


def _first_of_lane(intrinsic: Intrinsic, transposed: bool) -> tuple[Expression, Expression]:
    """Returns the row, and the 16-byte chunk on it, whose address a lane gives."""
    if intrinsic.parameter("role") == "a" and transposed:
        return LANE_MOD_8 + LANE_DIV_16 * 8, LANE_SECOND_8
    if intrinsic.parameter("role") == "a" or transposed:
        # Two of 8 rows below one another; x2 leaves the lanes from 16 on out.
        return LANE_MOD_16, LANE_DIV_16 * (int(intrinsic.parameter("matrices")) // 4)
    next_rows = LANE_DIV_16 * 8 * (int(intrinsic.parameter("matrices")) // 4)
    return LANE_MOD_8 + next_rows, LANE_SECOND_8
