"""Arguments of kernels as text: `f32[1024]=in.npy`, `out:f32[4,8]`, `i32=7`."""

import re
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..runtime.errors import TilewrightError
from ..runtime.simulator.device import DTYPES

_ARGUMENT = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*):)?(?P<type>\w+)(?:\[(?P<extents>[^\]]*)\])?(?:=(?P<value>.*))?",
    re.DOTALL | re.ASCII,
)
_FORMS = (
    "expected TYPE=NUMBER, or [NAME:]TYPE[EXTENTS] with =FILE.npy, =random or nothing for zeros"
)
MOST_BYTES = 1 << 34


@dataclass(frozen=True)
class KernelArgument:
    """One argument: a number, or an array where `extents` is not None."""

    name: str
    dtype: str
    extents: tuple[int, ...] | None
    value: str

    def __str__(self) -> str:
        """Returns the type with its extents."""
        inside = "" if self.extents is None else f"[{','.join(map(str, self.extents))}]"
        return f"{self.dtype}{inside}"


def parse_argument(text: str, position: int) -> KernelArgument:
    """Returns the argument that a text describes; raises TilewrightError."""
    match = _ARGUMENT.fullmatch(text)
    if match is None:
        raise TilewrightError(f"--arg {text!r}: {_FORMS}")
    name, dtype, inside, value = match.group("name", "type", "extents", "value")
    if dtype not in DTYPES:
        raise TilewrightError(f"--arg {text!r}: unknown type {dtype!r}; {', '.join(DTYPES)}")
    extents = None if inside is None else parse_extents("--arg", inside, 16)
    if extents is None and value is None:
        raise TilewrightError(f"--arg {text!r}: {_FORMS}")
    if extents is not None and prod(extents) * np.dtype(DTYPES[dtype]).itemsize > MOST_BYTES:
        raise TilewrightError(f"--arg {text!r}: more than {MOST_BYTES >> 30} GiB")
    return KernelArgument(name or f"arg{position}", dtype, extents, value or "")


def parse_extents(option: str, text: str, most: int = 3) -> tuple[int, ...]:
    """Returns `4,8` as numbers; raises TilewrightError for what is no list of extents."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > most or not all(re.fullmatch("[0-9]{1,12}", part) for part in parts):
        raise TilewrightError(f"{option} {text!r}: expected 1 to {most} numbers such as 4,8")
    extents = tuple(map(int, parts))
    if 0 in extents:
        raise TilewrightError(f"{option} {text!r}: an extent is 0")
    return extents


def number_of(argument: KernelArgument) -> int | float:
    """Returns the value of a number; raises TilewrightError where the type can't hold it."""
    kind = argument.dtype
    try:
        if kind in ("f32", "f64"):
            return float(argument.value)
        value = int(argument.value, 0)
    except ValueError:
        shown = f"{argument.name}: {argument.value!r}"
        raise TilewrightError(f"argument {shown} is not a number of type {kind}") from None
    if kind in ("f16", "bf16"):
        raise TilewrightError(f"argument {argument.name}: pass the bits of {kind} as u16")
    limits = np.iinfo(DTYPES[kind])
    if not limits.min <= value <= limits.max:
        raise TilewrightError(f"argument {argument.name}: {value} does not fit {kind}")
    return value


def array_of(argument: KernelArgument, generator: np.random.Generator) -> Any:
    """Returns the initial contents of an array argument; raises TilewrightError."""
    extents, kind = argument.extents or (), np.dtype(DTYPES[argument.dtype])
    if not argument.value:
        return np.zeros(extents, kind)
    if argument.value == "random":
        return _random(argument.dtype, extents, generator)
    try:
        loaded: Any = np.load(argument.value, allow_pickle=False)
    except (ValueError, EOFError):
        raise TilewrightError(f"{argument.value}: not an .npy file of numbers") from None
    form = (getattr(loaded, "dtype", None), getattr(loaded, "shape", ()))
    if form != (kind, extents):
        wanted, got = (f"{dtype}{list(shape)}" for dtype, shape in ((kind, extents), form))
        raise TilewrightError(f"{argument.value}: expected {wanted} for {argument}, got {got}")
    return loaded


def _random(dtype: str, extents: tuple[int, ...], generator: np.random.Generator) -> Any:
    """Returns standard normal numbers, or integers from 0 to 15."""
    if dtype[0] in "iu":
        return generator.integers(0, 16, extents).astype(DTYPES[dtype])
    numbers = generator.standard_normal(extents, np.float32)
    if dtype == "bf16":
        return (numbers.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return numbers.astype(DTYPES[dtype])
