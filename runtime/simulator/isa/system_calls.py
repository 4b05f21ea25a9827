"""
What CUDA gives every module to call: vprintf, __assertfail, malloc, free.

Source: PTX Writer's Guide to Interoperability, "System Calls"; CUDA C++ Programming Guide,
"Formatted Output", "Assertion", "Dynamic Global Memory Allocation".
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compiler.call_graph import SYSTEM_CALLS
from ..compiler.program import Site
from ..memory import Allocation
from ..printf import format_text, parse_format
from ..ptx.syntax import Instruction, Operand, SymbolAddress, Vector
from ..scalars import DTYPES, Lanes, size_of
from .forms import Fields, Table
from .memory import load_generic, load_window, store_window
from .operations import lanes_of

if TYPE_CHECKING:
    from ..compiler.emitter import BlockEmitter
    from ..machine import Group

HEAP_BYTES = 8 << 20  # what cudaLimitMallocHeapSize is at the start
_CHUNK = 256


def string_at(group: "Group", site: "Site", address: int, position: int) -> bytes:
    """Returns the string at a generic address, as the lane at a position sees it."""
    window, start = group.machine.window_of(address)
    if window is None:
        allocation = group.machine.launch.memory.find(address)
        inside = allocation is not None and address < allocation.base + allocation.size
        if allocation is None or not inside or not allocation.live:
            kind, where = group.machine.launch.memory.describe(address, 1)
            message = f"a string at {address:#x}: {where}"
            raise group.fault(site, kind, message, np.array([position]), address)
        data = allocation.storage[address - allocation.base :]
    else:
        row = group.row(window)
        first = 0 if row is None else int(row[position])
        data = window.storage[first + min(address - start, window.limit) : first + window.limit]
    found: list[bytes] = []
    for chunk in range(0, data.size, _CHUNK):
        piece, end, _ = data[chunk : chunk + _CHUNK].tobytes().partition(b"\0")
        found.append(piece)
        if end:
            return b"".join(found)
    message = f"the string at {address:#x} does not end inside its memory"
    raise group.fault(site, "bounds", message, np.array([position]), address)


def vprintf(group: "Group", site: "Site", form: Lanes, arguments: Lanes) -> Lanes:
    """Prints a line for each lane, in order; returns how many arguments each one has, u32."""
    forms = lanes_of(group, form)
    lines: list[bytes] = [b""] * group.n
    counts = np.empty(group.n, np.uint32)
    for address in np.unique(forms):
        positions = np.flatnonzero(forms == address)
        narrow = group if positions.size == group.n else group.at(positions)
        base = arguments[positions] if arguments.ndim else arguments
        parsed = parse_format(string_at(narrow, site, int(address), 0))
        columns = [_argument(narrow, site, base, *place) for place in parsed.places]
        counts[positions] = len(parsed.places)
        rows = list(zip(*columns, strict=True)) if columns else [()] * positions.size

        for number, position in enumerate(positions.tolist()):
            lines[position] = format_text(
                parsed,
                rows[number],
                lambda at, g=narrow, n=number: string_at(g, site, at, n),
            )
    group.machine.launch.printed += lines
    return counts


def _argument(group: "Group", site: "Site", base: Lanes, code: str, offset: int) -> list[Any]:
    """Returns one argument of each lane as Python's numbers."""
    inner = site.extra.get((code, offset))
    if inner is None:
        size = np.dtype(code).itemsize
        inner = Site(site.instruction, np.dtype(code).type, size, offset=offset)
        site.extra[code, offset] = inner
    return lanes_of(group, load_generic(group, inner, base)).tolist()


def assert_fail(
    group: "Group", site: "Site", message: Lanes, file: Lanes, line: Lanes, function: Lanes
) -> None:
    """Ends the launch for the lanes that fail as the first one does."""
    values = [lanes_of(group, value) for value in (message, file, line, function)]
    alike = np.flatnonzero(np.logical_and.reduce([value == value[0] for value in values]))
    texts = [
        string_at(group, site, int(value[0]), 0).decode("utf-8", "replace") if value[0] else "?"
        for value in (values[0], values[1], values[3])
    ]
    what = f"assertion `{texts[0]}` failed in {texts[2]}, {texts[1]}:{int(values[2][0])}"
    raise group.fault(site, "assert", what, alike)


def malloc(group: "Group", site: "Site", size: Lanes) -> Lanes:
    """Returns an allocation for each lane, u64; 0 where the heap has not enough left."""
    launch = group.machine.launch
    memory = launch.memory
    result = np.zeros(group.n, np.uint64)
    for position, wanted in enumerate(lanes_of(group, size).tolist()):
        if not 0 < wanted <= HEAP_BYTES - memory.heap_bytes:
            continue
        name = f"malloc of PTX line {site.instruction.line}"
        allocation = memory.allocate(np.full(wanted, 0xFF, np.uint8), name)
        if "uninitialised" in launch.checks:
            allocation.written = np.zeros(wanted, np.uint8)
        result[position] = allocation.base
    return result


def free(group: "Group", site: "Site", address: Lanes) -> None:
    """Ends allocations; 0 is none."""
    launch = group.machine.launch
    for position, at in enumerate(lanes_of(group, address).tolist()):
        if not at:
            continue
        allocation = launch.memory.find(at)
        wrong = _not_allocated(allocation, at)
        if allocation is None or wrong:
            kind = "use-after-free" if wrong.startswith("it was") else "bounds"
            message = f"free of {at:#x}: {wrong}"
            raise group.fault(site, kind, message, np.array([position]), at)
        launch.memory.deallocate(allocation)
    for hits in launch.hits:
        hits.clear()


def _not_allocated(allocation: Allocation | None, address: int) -> str:
    """Says why an address can't be freed, "" where it can."""
    if allocation is None or allocation.base != address or not allocation.heap:
        return "no malloc returned it"
    return "" if allocation.live else "it was freed before"


def _emit(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits a call of one of these; a guard branches around it."""
    returns, arguments = b.operands(2)
    assert isinstance(returns, Vector)
    assert isinstance(arguments, Vector)
    width, widths = SYSTEM_CALLS[fields["name"]]
    given = [
        _value(b, operand, f"b{bits}")
        for operand, bits in zip(arguments.items, widths, strict=True)
    ]
    del given[4:]  # the size of a character of an assertion
    function = _FUNCTIONS[fields["name"]]
    call = f"{b.use(function)}({', '.join(['g', b.site(extra={}), *given])})"
    if not width:
        b.lines.append(call)
        return
    _give(b, returns.items[0], f"b{width}", b.define(call))


def _value(b: "BlockEmitter", operand: Operand, type: str) -> str:
    """Returns the name of an argument's value: of a parameter, register or constant."""
    if not isinstance(operand, SymbolAddress):
        return b.read(operand, type)
    variable = operand.variable
    pieces = b.scope.passed.registers.get(variable)
    if pieces is not None:
        return b.read(pieces[0], type)
    place, code = b.scope.layout.offset(variable), DTYPES[type]
    if place is None:
        raise b.error(f"expects a parameter, got {variable.name}")
    if variable not in b.scope.passed.memory:
        return b.launch_value("param", f"{place}:{code}", code)
    site = _local_site(b, type, place)
    return b.define(f"{b.use(load_window)}(g, {site}, {b.scope.constant('u4', 0)})")


def _give(b: "BlockEmitter", operand: Operand, type: str, value: str) -> None:
    """Emits what puts a return value into a parameter or register."""
    if not isinstance(operand, SymbolAddress):
        b.write(operand, type, value)
        return
    variable = operand.variable
    pieces = b.scope.passed.registers.get(variable)
    if pieces is not None:
        b.write(pieces[0], type, value)
        return
    place = b.scope.layout.offset(variable)
    if place is None or variable not in b.scope.passed.memory:
        raise b.error(f"can't return a value in {variable.name}")
    b.call(store_window, _local_site(b, type, place), [b.scope.constant("u4", 0), value])


def _local_site(b: "BlockEmitter", type: str, place: int) -> str:
    """Returns the site of an access to a parameter in local memory."""
    dtype = np.dtype(DTYPES[type]).type
    return b.site(dtype=dtype, size=size_of(type), space="local", offset=place)


def _nothing(b: "BlockEmitter", instruction: Instruction, fields: Fields) -> None:
    """Emits nothing: the call or return of an inlined function."""


_FUNCTIONS: dict[str, Any] = {
    "vprintf": vprintf,
    "__assertfail": assert_fail,
    "malloc": malloc,
    "free": free,
}
FORMS: Table = (
    ("call.<what:enter|leave>", _nothing),
    ("call.<name:vprintf|__assertfail|malloc|free>", _emit),
)
