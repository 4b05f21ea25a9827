"""Looking up where new tokens go, from page tables that lie on the device."""

from ...dialects.nest.program import Program, Scope
from ...dialects.sym import ceildiv
from ...nest.builder import Builder
from ...nest.values import Value, cast, compare, inside, select, value_of
from .rows import GRID, LANE, LARGEST

_THREADS = 128


def places(*, page_size: int) -> Program:
    """
    Returns page, slot and position, i32 [nnz], of the new tokens of a batch.

    `append_indptr` [batch + 1] divides them among requests of `lengths` [batch] with them; the page
    table is `kv_indptr` [batch + 1] and `kv_indices` [entries]. A token behind the last one, and
    one whose page is missing in the table or is no page of `num_pages`, gets page -1.
    """
    most = f"[0, {LARGEST}]"
    ranges = f"nnz in {most}, batch in [0, {LARGEST - 1}], entries in {most}"
    b = Builder("append_places", ranges)
    n, batch = b.symbol("nnz"), b.symbol("batch")
    indptr, lengths = (
        b.buffer("append_indptr", [batch + 1], "i32"),
        b.buffer("lengths", [batch], "i32"),
    )
    kv_indptr = b.buffer("kv_indptr", [batch + 1], "i32")
    kv_indices = b.buffer("kv_indices", ["entries"], "i32")
    outputs = [b.buffer(name, [n], "i32", output=True) for name in ("page", "slot", "position")]
    num_pages = b.scalar("num_pages", "i32")
    request, at, found = (
        b.temporary(name, [n], "i32", Scope.LOCAL) for name in ("request", "at", "found")
    )
    with (
        b.loop("group", ceildiv(n, _THREADS), GRID) as group,
        b.loop("lane", _THREADS, LANE) as lane,
    ):
        row = _THREADS * group + lane
        with b.block("token", spatial={"i": (n, row)}, where=[inside(row, n)]) as (i,):
            token = cast(value_of(i), "i32")
            # As many requests are before this token as end at or before it.
            request[i] = 0
            with b.loop("r", batch) as r:
                ends = compare("<=", indptr[r + 1], token)
                request[i] = request[i] + select(ends, 1, value_of(0, "i32"))
            at[i], found[i] = 0, -1
            b_index = cast(request[i], "index")
            with b.when(compare("<", request[i], cast(value_of(batch), "i32"))):
                at[i] = lengths[b_index] - indptr[b_index + 1] + token
                with b.when(compare(">=", at[i], 0)):
                    entry = kv_indptr[b_index] + at[i] // page_size
                    with b.when(compare("<", entry, kv_indptr[b_index + 1])):
                        page: Value = kv_indices[cast(entry, "index")]
                        found[i] = select(compare("<", page, num_pages), page, -1)
            is_found = compare(">=", found[i], 0)
            zero = value_of(0, "i32")
            outputs[0][i] = select(is_found, found[i], -1)
            outputs[1][i] = select(is_found, at[i] % page_size, zero)
            outputs[2][i] = select(is_found, at[i], zero)
    return b.build()
