"""Launching by contract: binds symbols, checks and orders arguments, sizes the grid."""

from collections.abc import Mapping
from typing import Protocol

from .array import ArrayView, check, show_shape, view_of
from .artifact import Artifact
from .buffer import Buffer
from .contract import KernelContract, PointerParam, ScalarParam
from .device import Argument, Device, Grid
from .errors import ArgumentError
from .stream import stream_handle

_INTEGERS = {
    "i1": (0, 1),
    "u8": (0, 255),
    **{f"i{bits}": (-(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
}
_FLOATS = ("f16", "bf16", "f32", "f64")
_LARGEST_F32 = (2 - 2**-23) * 2.0**127
# CUDA Programming Guide, Compute Capabilities: the largest grid in x, y and z.
_LARGEST_GRID = (2**31 - 1, 65535, 65535)


class Shaped(Protocol):
    """Anything of which the shape is known."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents."""
        ...


class Signature:
    """A contract prepared for calls: its extents are parsed once."""

    def __init__(self, contract: KernelContract) -> None:
        self.contract = contract
        self.pointers = {param.name: (param, param.extents) for param in contract.pointers}
        self._described = {param.name: show_shape(param.shape) for param in contract.pointers}
        self._binders = [
            (name, index, len(extents), extent.name)
            for name, (_, extents) in self.pointers.items()
            for index, extent in enumerate(extents)
            if extent.name
        ]
        self._grid = tuple(PointerParam("grid", "i32", contract.grid).extents)

    def bind(self, arrays: Mapping[str, Shaped]) -> dict[str, int]:
        """
        Returns the symbols that the shapes of `arrays` bind.

        A dimension whose extent is one bare symbol binds it, the first one in the order of the
        parameters; the others are checked by `check`.
        """
        symbols: dict[str, int] = {}
        for name, index, rank, symbol in self._binders:
            array = arrays.get(name)
            if array is not None and len(array.shape) == rank:
                symbols.setdefault(symbol, array.shape[index])
        return symbols

    def shape(self, name: str, symbols: Mapping[str, int]) -> tuple[int, ...]:
        """Returns the shape of the pointer parameter `name`; raises ExtentError."""
        return tuple(extent.evaluate(symbols) for extent in self.pointers[name][1])

    def check(self, view: ArrayView, symbols: Mapping[str, int]) -> None:
        """Checks a caller's array against its parameter; raises ArgumentError."""
        param, extents = self.pointers[view.name]
        described = self._described[view.name]
        if len(view.shape) != len(extents):
            got = f"{len(view.shape)} {show_shape(view.shape)}"
            raise ArgumentError(view.name, f"{len(extents)} dimensions {described}", got)
        shape = self.shape(view.name, symbols)
        check(view, param.dtype, shape, described, param.access != "read")

    def check_ranges(self, symbols: Mapping[str, int]) -> None:
        """Checks every symbol against its range; raises ArgumentError."""
        for name, span in self.contract.symbols.items():
            value = symbols[name]
            if value < span.minimum or (span.maximum is not None and value > span.maximum):
                high = "..." if span.maximum is None else span.maximum
                raise ArgumentError(name, f"a value in [{span.minimum}, {high}]", str(value))
            if value % span.multiple:
                raise ArgumentError(name, f"a multiple of {span.multiple}", str(value))

    def grid(self, symbols: Mapping[str, int]) -> Grid:
        """Returns the grid, in CTAs; raises ArgumentError for one that no GPU takes."""
        x, y, z = (extent.evaluate(symbols) for extent in self._grid)
        for axis, size, largest in zip("xyz", (x, y, z), _LARGEST_GRID, strict=True):
            if not 0 <= size <= largest:
                raise ArgumentError(f"grid.{axis}", f"0 to {largest} CTAs", str(size))
        return x, y, z

    def arguments(
        self,
        buffers: Mapping[str, Buffer],
        scalars: Mapping[str, object],
        symbols: Mapping[str, int],
    ) -> list[Argument]:
        """Returns the kernel's arguments in order; raises ArgumentError."""
        arguments: list[Argument] = []
        for param in self.contract.params:
            if isinstance(param, PointerParam):
                buffer = buffers[param.name]
                check_alignment(param, buffer)
                arguments.append(buffer)
            else:
                arguments.append(scalar(param, scalars, symbols))
        return arguments


def check_alignment(param: PointerParam, buffer: Buffer) -> None:
    """Checks the address that a kernel gets; raises ArgumentError."""
    over = buffer.address % param.alignment
    if over:
        got = f"an address {over} B past one"
        raise ArgumentError(param.name, f"an address aligned to {param.alignment} B", got)


def scalar(
    param: ScalarParam, scalars: Mapping[str, object], symbols: Mapping[str, int]
) -> int | float:
    """Returns the value of one scalar parameter; raises ArgumentError."""
    bound = symbols.get(param.symbol) if param.symbol is not None else None
    value = scalars.get(param.name) if bound is None else bound
    if value is None:
        raise ArgumentError(param.name, f"a value of type {param.dtype}", "nothing")
    if param.dtype in _FLOATS:
        return _float(param, value)
    index = getattr(value, "__index__", None)
    if index is None or (isinstance(value, bool) and param.dtype != "i1"):
        raise ArgumentError(param.name, f"an integer of type {param.dtype}", repr(value))
    integer: int = index()
    low, high = _INTEGERS[param.dtype]
    if not low <= integer <= high:
        raise ArgumentError(param.name, f"an integer of type {param.dtype}", str(integer))
    return integer


def _float(param: ScalarParam, value: object) -> float:
    convert = getattr(value, "__float__", None)
    if convert is None or isinstance(value, bool):
        raise ArgumentError(param.name, f"a number of type {param.dtype}", repr(value))
    number = float(convert())
    if param.dtype != "f64" and _LARGEST_F32 < abs(number) < float("inf"):
        raise ArgumentError(param.name, f"a number of type {param.dtype}", repr(number))
    return number


def run_kernel(
    device: Device,
    artifact: Artifact,
    args: Mapping[str, object],
    stream: object = None,
) -> dict[str, Buffer]:
    """
    Runs one kernel on arrays and scalars by parameter name; the way of a plain bundle.

    Every parameter must be given, but for scalars that a symbol binds. Returns the buffers of the
    pointers that the kernel writes; an array in host memory is not changed. Raises ArgumentError,
    TargetError, AssemblerError, KernelFault or CudaError.
    """
    contract = artifact.contract
    signature = Signature(contract)
    _check_names(contract, args)
    handle = stream_handle(stream)
    views = {name: view_of(args[name], name, handle) for name in signature.pointers}
    symbols = signature.bind(views)
    scalars = {param.name: args[param.name] for param in contract.scalars if param.name in args}
    for param in contract.scalars:
        if param.symbol is not None and param.symbol not in symbols:
            symbols[param.symbol] = int(scalar(param, scalars, symbols))
    for view in views.values():
        signature.check(view, symbols)
    signature.check_ranges(symbols)
    grid = signature.grid(symbols)
    kernel = device.load(artifact)
    buffers = {
        # What a kernel writes goes to a copy of the caller's host memory.
        name: device.adopt(view, stream)
        if param.access == "read"
        else device.array(args[name], name)
        for name, (param, _) in signature.pointers.items()
        for view in (views[name],)
    }
    arguments = signature.arguments(buffers, scalars, symbols)
    if 0 not in grid:
        kernel.launch(grid, arguments, stream)
    return {p.name: buffers[p.name] for p in contract.pointers if p.access != "read"}


def _check_names(contract: KernelContract, args: Mapping[str, object]) -> None:
    known = [param.name for param in contract.params]
    for name in args:
        if name not in known:
            raise ArgumentError(name, f"one of {', '.join(known)}", "an unknown name")
    for param in contract.params:
        optional = isinstance(param, ScalarParam) and param.symbol is not None
        if param.name not in args and not optional:
            raise ArgumentError(param.name, "a value", "nothing")
