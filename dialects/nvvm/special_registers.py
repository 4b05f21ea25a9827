"""
Reads of the special registers of a thread (PTX ISA, "Special Registers").

One op for each register, as upstream has them: `nvvm.read.ptx.sreg.tid.x` reads `%tid.x`.
"""

from __future__ import annotations

from typing import Any

from xdsl.dialects.builtin import IntegerType, i32, i64
from xdsl.irdl import IRDLOperation, irdl_op_definition, result_def, traits_def
from xdsl.traits import Pure

REGISTERS_32: dict[str, str] = {
    **{
        f"{register}.{axis}": f"{meaning} along {axis}"
        for register, meaning in (
            ("tid", "the index of the thread in its CTA"),
            ("ntid", "the number of threads of a CTA"),
            ("ctaid", "the index of the CTA in the grid"),
            ("nctaid", "the number of CTAs of the grid"),
        )
        for axis in "xyz"
    },
    "laneid": "the index of the thread in its warp, 0 to 31",
    "warpid": "the index of the warp in its CTA, which may change while the thread runs",
    "nwarpid": "the number of warp slots of a CTA",
    "warpsize": "the number of threads of a warp, 32",
    "smid": "the multiprocessor on which the thread runs",
    "nsmid": "an upper bound of `smid`",
    "lanemask.eq": "the mask with the bit of this lane",
    "lanemask.le": "the mask of the lanes up to this one",
    "lanemask.lt": "the mask of the lanes before this one",
    "lanemask.ge": "the mask of the lanes from this one on",
    "lanemask.gt": "the mask of the lanes after this one",
    "dynamic.smem.size": "the bytes of dynamic shared memory of the launch",
    "clock": "the low half of a cycle counter",
}
REGISTERS_64: dict[str, str] = {
    "clock64": "a cycle counter",
    "globaltimer": "the time in nanoseconds",
}
# Two reads of these may differ.
CLOCKS = frozenset({"clock", "clock64", "globaltimer", "smid", "warpid"})


class SpecialRegisterOp(IRDLOperation):
    """Reads one special register of the thread."""

    @classmethod
    def register(cls) -> str:
        """Returns the register's PTX name without the percent sign, such as `tid.x`."""
        return cls.name.removeprefix("nvvm.read.ptx.sreg.")

    def __init__(self) -> None:
        cls = type(self)
        super().__init__(result_types=[i64 if cls.register() in REGISTERS_64 else i32])


def _define(register: str, meaning: str, width: IntegerType) -> type[SpecialRegisterOp]:
    name = f"nvvm.read.ptx.sreg.{register}"
    camel = "".join(part.capitalize() for part in register.split("."))
    body: dict[str, Any] = {
        "__doc__": f"Reads `%{register}`: {meaning}.\n\n"
        f"```mlir\n%0 = {name} : i{width.width.data}\n```\n",
        "__module__": __name__,
        "name": name,
        "result": result_def(width),
        "assembly_format": "attr-dict `:` type($result)",
    }
    if register not in CLOCKS:
        body["traits"] = traits_def(Pure())
    return irdl_op_definition(type(f"Read{camel}Op", (SpecialRegisterOp,), body))


SPECIAL_REGISTER_OPS: dict[str, type[SpecialRegisterOp]] = {
    register: _define(register, meaning, width)
    for table, width in ((REGISTERS_32, i32), (REGISTERS_64, i64))
    for register, meaning in table.items()
}
