"""
Formats as printf does (C11, 7.21.6.1), for device code.

Sizes are those of CUDA on 64-bit Linux: int 4 bytes, long, long long, size_t, pointers and
double 8. Of more than 32 arguments the rest is printed as it is written ("Formatted Output",
CUDA C++ Programming Guide), like every conversion that C does not define.
"""

import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_MOST_ARGUMENTS = 32
_MOST_DIGITS = 4095  # of a width or precision; C promises as many characters a conversion
_CONVERSION = re.compile(
    rb"%(?P<flags>[-+ #0]*)(?P<width>\*|[0-9]*)(?P<point>\.(?P<precision>\*|[0-9]*))?"
    rb"(?P<length>hh|h|ll|l|L|z|t|j)?(?P<kind>[diouxXeEfFgGaAcsp%])"
)
_INTEGERS = "diouxX"
_FLOATS = "eEfFgGaA"
_STAR = -1


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    One conversion of a format.

    `width` is -1 for `*`, `precision` too and None where there is none. `codes` are the NumPy
    dtypes of the arguments that it takes, in order: for each `*` an int, then the value.
    """

    flags: str
    width: int
    precision: int | None
    length: str
    kind: str
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Format:
    """A format in pieces; `places` are dtype and offset in bytes of each argument."""

    pieces: tuple[bytes | Conversion, ...]
    places: tuple[tuple[str, int], ...]


@lru_cache(maxsize=256)
def parse_format(text: bytes) -> Format:
    """Returns a format in pieces; arguments lie at multiples of their size."""
    pieces: list[bytes | Conversion] = []
    codes: list[str] = []
    end = 0
    for match in _CONVERSION.finditer(text):
        pieces.append(text[end : match.start()])
        end = match.end()
        conversion = _conversion(match)
        if match["kind"] == b"%":
            pieces.append(b"%")
        elif conversion is None or len(codes) + len(conversion.codes) > _MOST_ARGUMENTS:
            pieces.append(match[0])
        else:
            pieces.append(conversion)
            codes += conversion.codes
    pieces.append(text[end:])
    places: list[tuple[str, int]] = []
    offset = 0
    for code in codes:
        size = int(code[1:])
        offset = (offset + size - 1) & -size
        places.append((code, offset))
        offset += size
    return Format(tuple(pieces), tuple(places))


def _conversion(match: re.Match[bytes]) -> Conversion | None:
    """Returns a conversion; None for a width or precision beyond what C promises."""
    flags, length, kind = (
        match[n].decode() if match[n] else "" for n in ("flags", "length", "kind")
    )
    width = _STAR if match["width"] == b"*" else int(match["width"] or 0)
    precision: int | None = None
    if match["point"]:
        precision = _STAR if match["precision"] == b"*" else int(match["precision"] or 0)
    if max(width, precision or 0) > _MOST_DIGITS:
        return None
    codes = ["i4"] * ((width == _STAR) + (precision == _STAR))
    if kind in _FLOATS:
        codes.append("f8")
    elif kind in "sp":
        codes.append("u8")
    elif kind == "c":
        codes.append("i4")
    else:
        wide = length in ("l", "ll", "z", "t", "j")
        codes.append(("i" if kind in "di" else "u") + ("8" if wide else "4"))
    return Conversion(flags, width, precision, length, kind, tuple(codes))


def format_text(form: Format, values: Sequence[float], text_at: Callable[[int], bytes]) -> bytes:
    """
    Returns what printf prints.

    `values` holds an int or float for each place of the format; `text_at` returns the string at
    a generic address.
    """
    out: list[bytes] = []
    rest = iter(values)
    for piece in form.pieces:
        if isinstance(piece, bytes):
            out.append(piece)
            continue
        flags, width, precision = piece.flags, piece.width, piece.precision
        if width == _STAR:
            width = int(next(rest))
            if width < 0:
                flags, width = flags + "-", -width
        if precision == _STAR:
            precision = int(next(rest))
            precision = None if precision < 0 else min(precision, _MOST_DIGITS)
        value = next(rest)
        sign, body, zeros = _converted(piece, flags, precision, value, text_at)
        out.append(_padded(sign, body, flags, min(width, _MOST_DIGITS), zeros))
    return b"".join(out)


def _padded(sign: bytes, body: bytes, flags: str, width: int, zeros: bool) -> bytes:
    """Returns sign or prefix and body in a field; `zeros` admits the flag 0."""
    missing = width - len(sign) - len(body)
    if missing <= 0:
        return sign + body
    if "-" in flags:
        return sign + body + b" " * missing
    if zeros and "0" in flags:
        return sign + b"0" * missing + body
    return b" " * missing + sign + body


def _converted(
    piece: Conversion,
    flags: str,
    precision: int | None,
    value: float,
    text_at: Callable[[int], bytes],
) -> tuple[bytes, bytes, bool]:
    """Returns sign or prefix, digits, and whether zeros may pad them."""
    kind = piece.kind
    if kind in _FLOATS:
        return _float(kind, flags, precision, value)
    number = int(value)
    if kind == "c":
        return b"", bytes((number & 0xFF,)), False
    if kind == "s":
        text = text_at(number) if number else b"(null)"
        return b"", text if precision is None else text[:precision], False
    if kind == "p":
        return b"", b"%#x" % number if number else b"(nil)", False
    bits = {"hh": 8, "h": 16}.get(piece.length)
    if bits is not None:
        number &= (1 << bits) - 1
        if kind in "di" and number >> (bits - 1):
            number -= 1 << bits
    return _integer(kind, flags, precision, number)


def _integer(
    kind: str, flags: str, precision: int | None, number: int
) -> tuple[bytes, bytes, bool]:
    """Returns sign or prefix and digits of an integer."""
    base = {"o": "o", "x": "x", "X": "X"}.get(kind, "d")
    digits = format(abs(number), base)
    if precision is not None:
        digits = digits.rjust(precision, "0") if number or precision else ""
    sign = ""
    if kind in "di":
        sign = _sign(flags, number < 0)
    elif "#" in flags and kind == "o":
        digits = digits if digits[:1] == "0" else "0" + digits
    elif "#" in flags and kind in "xX" and number:
        sign = "0" + kind
    return sign.encode(), digits.encode(), precision is None


def _sign(flags: str, negative: bool) -> str:
    """Returns the sign of a number."""
    if negative:
        return "-"
    return "+" if "+" in flags else " " if " " in flags else ""


def _float(kind: str, flags: str, precision: int | None, value: float) -> tuple[bytes, bytes, bool]:
    """Returns sign and digits of a floating-point number."""
    sign = _sign(flags, math.copysign(1, value) < 0)
    upper = kind.isupper()
    if not math.isfinite(value):
        body = "nan" if math.isnan(value) else "inf"
        return sign.encode(), (body.upper() if upper else body).encode(), False
    if kind in "aA":
        prefix, body = "0x", _hexadecimal(abs(value), precision, "#" in flags)
    else:
        alternate = "#" if "#" in flags else ""
        prefix = ""
        body = f"%{alternate}.{6 if precision is None else precision}{kind}" % abs(value)
    if upper:
        prefix, body = prefix.upper(), body.upper()
    return (sign + prefix).encode(), body.encode(), True


def _hexadecimal(value: float, precision: int | None, point: bool) -> str:
    """Returns the digits of %a without sign and 0x; ties round to even."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    exponent, fraction = bits >> 52, bits & ((1 << 52) - 1)
    significand = fraction | ((exponent != 0) << 52)
    power = (exponent or 1) - 1023 if significand else 0
    count = 13
    if precision is not None and precision < 13:
        cut = 4 * (13 - precision)
        low = significand & ((1 << cut) - 1)
        significand >>= cut
        half = 1 << (cut - 1)
        significand += low > half or (low == half and significand & 1)
        count = precision
    digits = f"{significand & ((1 << 4 * count) - 1):0{count}x}" if count else ""
    digits = digits.rstrip("0") if precision is None else digits.ljust(precision, "0")
    dot = "." if digits or point else ""
    return f"{significand >> 4 * count}{dot}{digits}p{power:+d}"
