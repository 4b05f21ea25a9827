"""Looking up where new tokens go, from page tables that lie on the device."""

from ...dialects.nest.program import Program, Scope
from ...nest.builder import Builder
from ...nest.values import Value, cast, compare, select, value_of
from .rows import LARGEST, each


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
    with each(b, n) as i:
        token = cast(value_of(i), "i32")
        # As many requests are before this token as end at or before it.
        request[i] = 0
        with b.loop("r", batch) as r:
            request[i] = request[i] + select(compare("<=", indptr[r + 1], token), 1, _ZERO)
        at[i], found[i] = 0, -1
        own = cast(request[i], "index")
        with b.when(compare("<", request[i], cast(value_of(batch), "i32"))):
            at[i] = lengths[own] - indptr[own + 1] + token
            with b.when(compare(">=", at[i], 0)):
                entry = kv_indptr[own] + at[i] // page_size
                with b.when(compare("<", entry, kv_indptr[own + 1])):
                    page: Value = kv_indices[cast(entry, "index")]
                    found[i] = select(compare("<", page, num_pages), page, -1)
        is_found = compare(">=", found[i], 0)
        outputs[0][i] = select(is_found, found[i], -1)
        outputs[1][i] = select(is_found, at[i] % page_size, _ZERO)
        outputs[2][i] = select(is_found, at[i], _ZERO)
    return b.build()


_ZERO = value_of(0, "i32")
