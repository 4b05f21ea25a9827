"""The state of one batch of CTAs while it runs, and the groups of lanes that run together."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import CURES, Finding, SimulationError
from .memory import (
    GLOBAL_BASE,
    GLOBAL_END,
    LOCAL_WINDOW,
    PARAM_WINDOW,
    SHARED_WINDOW,
    WINDOW_BYTES,
    Window,
)
from .phases import Phases
from .placement import PLACES, WARP
from .ptx.syntax import Instruction
from .scalars import Array, Lanes

if TYPE_CHECKING:
    from .compiler.program import Program, Site
    from .launch import Launch

_PLACES = 4  # addresses of which a group keeps where they lie
_POISON = 0xFF  # shared and local memory before the first write: NaN as any float type


class Group:
    """
    Lanes that run a block together: all, a slice, or an ascending array of lane numbers.

    `n` is their number. Values inside a block function have `n` elements, or are scalars.
    """

    __slots__ = ("_bases", "_leaders", "_whole", "machine", "n", "places", "select")

    def __init__(self, machine: "Machine", select: slice | Array | None) -> None:
        self.machine = machine
        self.select = select
        self.places: dict[Any, Any] = {}  # what access.py keeps of addresses
        self._bases: dict[int, Array | None] = {}
        self._leaders: Group | bool | None = False  # False: not asked for yet
        self._whole: bool | None = None
        if select is None:
            self.n: int = machine.lanes
        elif isinstance(select, slice):
            self.n = int(select.stop - select.start)
        else:
            self.n = select.size

    def lanes(self) -> Array:
        """Returns the lane numbers, ascending."""
        if self.select is None:
            return np.arange(self.n)
        if isinstance(self.select, slice):
            start = int(self.select.start)
            return np.arange(start, start + self.n)
        return self.select

    def at(self, positions: Array) -> "Group":
        """Returns the group of the lanes at some positions of this one."""
        return Group(self.machine, self.lanes()[positions])

    def row(self, window: Window, shift: int = 0) -> Array | None:
        """Returns where each lane's row begins, in units of `1 << shift` bytes."""
        key = id(window) * 8 + shift
        if key not in self._bases:
            base = window.base
            if base is not None:
                base = (base if self.select is None else base[self.select]) >> shift
            self._bases[key] = base
        return self._bases[key]

    def remember(self, key: Any, place: Any) -> None:
        """Keeps a place; forgets the oldest one where there are many."""
        if len(self.places) >= _PLACES:
            del self.places[next(iter(self.places))]
        self.places[key] = place

    def whole_warps(self) -> bool:
        """Says whether every warp of the group has all its 32 lanes here."""
        if self._whole is None:
            self._whole = self._are_whole()
        return self._whole

    def _are_whole(self) -> bool:
        """Finds out whether every warp has all its lanes."""
        select = self.select
        if select is None:
            return True
        if isinstance(select, slice):
            return select.start % WARP == 0 and select.stop % WARP == 0
        if select.size % WARP:
            return False
        warps = select.reshape(-1, WARP)
        return bool(((warps[:, 0] % WARP == 0) & (warps[:, -1] - warps[:, 0] == WARP - 1)).all())

    def first_warps(self) -> "Group | None":
        """Returns the first warp of each CTA; None unless all CTAs are whole, of several warps."""
        if self._leaders is False:
            size = self.machine.padded
            self._leaders = None
            if size > WARP and self.n % size == 0:
                rows = self.lanes().reshape(-1, size)
                if ((rows[:, 0] % size == 0) & (rows[:, -1] - rows[:, 0] == size - 1)).all():
                    self._leaders = Group(self.machine, rows[:, :WARP].reshape(-1))
        return self._leaders if isinstance(self._leaders, Group) else None

    def clock(self, name: str) -> Lanes:
        """Returns a clock register: instructions issued so far, which only ever grow."""
        steps = self.machine.steps
        if name in ("%clock64", "%globaltimer"):
            return np.uint64(steps)
        return np.uint32(steps >> 32 if name.endswith("_hi") else steps & 0xFFFFFFFF)

    def fault(
        self,
        site: "Site",
        kind: str,
        message: str,
        positions: Array | None = None,
        address: int | None = None,
    ) -> SimulationError:
        """Returns the error for lanes at some positions of the group (all of them if None)."""
        lanes = self.lanes()
        concerned = lanes if positions is None else lanes[positions]
        return self.machine.fault(site.instruction, kind, message, concerned, address)


class Machine:
    """
    One batch of CTAs: lanes, registers, shared and local memory, barriers, async copies.

    Lanes are ordered by CTA, then thread; the CTAs of a cluster are neighbours. A CTA takes a
    multiple of 32 lanes; those beyond its threads count as exited from the beginning. `first` is
    the slot of the first CTA.
    """

    def __init__(self, launch: "Launch", first: int, ctas: int) -> None:
        self.launch = launch
        self.program: Program = launch.program
        self.first = first
        self.ctas = ctas
        self.threads = launch.threads
        self.padded = (launch.threads + WARP - 1) // WARP * WARP
        self.lanes: int = ctas * self.padded
        self.whole = Group(self, None)
        self.exited: Array = np.arange(self.lanes) % self.padded >= self.threads
        self.alive = ctas * self.threads
        self.hits: dict[Any, Any] = {}  # by site: where it found its address last; see access.py
        launch.hits.append(self.hits)
        self.steps: int = 0
        self.thread_instructions: int = 0
        self.checks = launch.checks
        self.copies: Any = None  # what isa/asynchronous.py keeps of copies in flight
        self.bulk_groups: Any = None  # what bulk_groups.py keeps of them
        self.cluster_barriers: Any = None  # what cluster_barrier.py keeps
        self.clocks: Any = None  # the vector clocks, where races are looked for
        self.register_changes: list[tuple[Any, Array]] = []  # setmaxnreg: sites and lanes
        self.phases = Phases()
        self.fragments: dict[Any, Any] = {}  # what isa/matrix.py keeps of decoded operands
        self.windows = self._windows()
        self.shared = self.windows["shared"]
        self.file: list[Lanes] = [np.uint32(0)] * self.program.registers
        self._fill()

    def _windows(self) -> dict[str, Window]:
        """Makes the memory of the spaces that are not global."""
        launch = self.launch
        row = (launch.shared_bytes + 1023) // 1024 * 1024
        shared = np.full(max(row * self.ctas, 16), _POISON, np.uint8)
        self.cluster = launch.placement.size
        cta = np.arange(self.lanes) // self.padded
        base = None if self.ctas == 1 else cta * row
        layout = self.program.layout
        local = np.full(max(layout.local * self.lanes, 16), _POISON, np.uint8)
        params = np.zeros((len(launch.params) + 31) // 16 * 16, np.uint8)
        params[: len(launch.params)] = np.frombuffer(launch.params, np.uint8)
        windows = {
            "shared": Window("shared", shared, launch.shared_bytes, base),
            "local": Window("local", local, layout.local, np.arange(self.lanes) * layout.local),
            "param": Window("param", params, layout.params, None, writable=False),
        }
        windows["shared"].pitch = row
        windows["shared::cluster"] = windows["shared"]
        if "uninitialised" in self.checks:
            windows["shared"].written = np.zeros(shared.size, np.uint8)
        return windows

    def _fill(self) -> None:
        """Sets the launch-time values of the register file."""
        for code, index in self.program.register_codes:
            self.file[index] = np.zeros((), code)[()]
        for (kind, key), index in self.program.pseudo.items():
            if kind == "special":
                self.file[index] = self._special(key)
            elif kind == "symbol":
                self.file[index] = np.uint64(self.launch.symbols[key])
            elif kind == "param":
                offset, code = key.split(":")
                size = np.dtype(code).itemsize
                raw = self.launch.params[int(offset) : int(offset) + size]
                self.file[index] = np.frombuffer(raw, code)[0]

    def _special(self, name: str) -> Lanes:
        """Returns the value of a special register over all lanes."""
        launch = self.launch
        kind = name[1:].partition(".")[0]
        if kind in PLACES:
            return launch.placement.special(name, self._slots())
        if kind == "ntid":
            return np.uint32(launch.block["xyz".index(name[-1])])
        thread = np.arange(self.lanes, dtype=np.uint32) % np.uint32(self.padded)
        lane = thread % np.uint32(WARP)
        if kind == "tid":
            return self._axis(np.minimum(thread, self.threads - 1), launch.block, name[-1])
        if name == "%laneid":
            return lane
        if name == "%warpid":
            return thread // np.uint32(WARP)
        if name.startswith("%lanemask_"):
            return _lanemask(name[-2:], lane)
        constants = {
            "%nwarpid": 64,
            "%nsmid": launch.multiprocessors,
            "%dynamic_smem_size": launch.dynamic_bytes,
            "%total_smem_size": launch.shared_bytes,
            "%aggr_smem_size": launch.shared_bytes,
        }
        if name == "%smid":
            return (self._slots() % launch.multiprocessors).astype(np.uint32)
        wide = name in ("%gridid", "%current_graph_exec") or name.endswith("_64")
        return np.uint64(0) if wide else np.uint32(constants.get(name, 0))

    def _slots(self) -> Array:
        """Returns the slot of each lane's CTA."""
        return np.arange(self.lanes, dtype=np.int64) // self.padded + self.first

    @staticmethod
    def _axis(index: Array, extents: tuple[int, int, int], axis: str) -> Lanes:
        """Returns one coordinate of a linear index; a scalar where the extent is 1."""
        x, y, z = extents
        if extents["xyz".index(axis)] == 1:
            return np.uint32(0)
        if axis == "x":
            return (index % x).astype(np.uint32)
        if axis == "y":
            return (index // x % y).astype(np.uint32)
        return (index // (x * y) % z).astype(np.uint32)

    def window_of(self, address: int) -> tuple[Window | None, int]:
        """Returns the window that a generic address lies in and its start; None for global."""
        for space, start in (
            ("shared", SHARED_WINDOW),
            ("local", LOCAL_WINDOW),
            ("param", PARAM_WINDOW),
        ):
            if start <= address < start + (1 << 32):
                return self.windows[space], start
        return None, 0

    def place(self, lane: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Returns ctaid and tid of a lane."""
        thread = lane % self.padded
        bx, by, _ = self.launch.block
        return (
            self.launch.placement.ctaid(self.first + lane // self.padded),
            (thread % bx, thread // bx % by, thread // (bx * by)),
        )

    def fault(
        self,
        instruction: Instruction | None,
        kind: str,
        message: str,
        lanes: Array,
        address: int | None = None,
    ) -> SimulationError:
        """Returns the error for some lanes at an instruction."""
        ctaid, tid = self.place(int(lanes[0]))
        module = self.program.module
        finding = Finding(
            kind,
            message,
            self.program.name,
            ctaid,
            tid,
            int(lanes.size),
            instruction.line if instruction else 0,
            module.source_of(instruction) if instruction else "",
            module.text_of(instruction) if instruction else "",
            address,
            self._near(instruction, address),
            cure=CURES.get(kind, ""),
            calls=tuple(call.line for call in instruction.calls) if instruction else (),
        )
        return SimulationError(finding)

    def _near(self, instruction: Instruction | None, address: int | None) -> str:
        """Returns the allocation or variable that lies at an address, or nearest below it."""
        if address is None:
            return ""
        if GLOBAL_BASE <= address < GLOBAL_END:
            return str(self.launch.memory.find(address) or "")
        space = "local" if instruction is not None and ".local" in instruction.opcode else "shared"
        return self.program.layout.name_at(space, address % WINDOW_BYTES)


def _lanemask(which: str, lane: Array) -> Array:
    """Returns %lanemask_eq and its kin."""
    bit = np.uint32(1) << lane
    below = bit - np.uint32(1)
    return {"eq": bit, "lt": below, "le": below | bit, "ge": ~below, "gt": ~(below | bit)}[which]
