"""
Records what a GPU computes, one kernel an instruction variant, for the simulator to be held to.

Run `python test/conformance/record.py --out test/conformance/<gpu>` on a machine with a GPU of
sm_80 or later. It takes libcuda through ctypes and needs NumPy alone; it runs for a few minutes.
The folder then holds an .npz a family with the raw results of each variant by name, and
meta.json: GPU, driver, date, what was skipped as another target's, what failed and why. Operands
follow from a variant's name, so they are not stored. Commit the folder: test_replay.py finds it
and holds the simulator to it from then on.

`--only PATTERN` takes the variants whose name or family a regular expression finds. Kernels run in
a process of their own: one that doesn't end in time, or breaks the GPU's context, ends it, is
named, and the next variants get a new process. `--on simulator` puts the simulator in the GPU's
place; `--ptx FOLDER` writes the modules instead, for an assembler to check.
"""

import argparse
import datetime
import json
import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from devices import Broken, Device, Gpu, Simulator
from variants import Variant, differences, module, variants
from variants.variant import Array

LIMIT = 60.0  # seconds without an answer; the first kernel of a module waits for its compiler
_BATCH = 24  # variants a module
Factory = Callable[[], Device]
# A variant's name, its results or None, and why there are none.
Answer = tuple[str, Array | None, str]


def batches(chosen: Sequence[Variant]) -> Iterator[list[Variant]]:
    """Yields variants that go into one module."""
    for _, found in groupby(chosen, lambda each: (each.family, each.target, each.version)):
        alike = list(found)
        for first in range(0, len(alike), _BATCH):
            yield alike[first : first + _BATCH]


def compute(device: Device, chosen: Sequence[Variant]) -> Iterator[Answer]:
    """Yields an answer for each variant, in order; raises Broken where nothing runs any more."""
    for batch in batches(chosen):
        try:
            loaded = device.load(module(batch))
        except Broken:
            raise
        except Exception as error:
            if len(batch) == 1:
                yield batch[0].name, None, str(error)
            else:  # one of them is refused: each gets a module of its own
                for variant in batch:
                    yield from compute(device, [variant])
            continue
        for number, variant in enumerate(batch):
            try:
                yield variant.name, device.run(loaded, f"k{number}", variant), ""
            except Broken:
                raise
            except Exception as error:
                yield variant.name, None, str(error)


def serve(connection: Any, factory: Factory) -> None:
    """Runs the variants whose names come; sends what the device is, then an answer each."""
    try:
        device = factory()
    except Exception as error:
        connection.send(str(error))
        return
    connection.send((device.description, device.capability))
    known = {variant.name: variant for variant in variants()}
    try:
        for answer in compute(device, [known[name] for name in connection.recv()]):
            connection.send(answer)
    except Broken as error:
        connection.send(("", None, str(error)))


class Session:
    """A device in a process of its own, which gets a new one when it breaks or hangs."""

    def __init__(self, factory: Factory, limit: float = LIMIT) -> None:
        self._factory = factory
        self._limit = limit
        self._context = multiprocessing.get_context("spawn")
        self.description: dict[str, str] = {}
        self.capability = (0, 0)
        self._start()

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        arguments = (theirs, self._factory)
        self._process = self._context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        hello: Any = "the device doesn't answer"
        try:
            if self._connection.poll(max(self._limit, LIMIT)):
                hello = self._connection.recv()
        except EOFError:
            hello = "the process of the device ended"
        if isinstance(hello, str):
            self.close()
            raise RuntimeError(hello)
        self.description, self.capability = hello

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def run(self, chosen: Sequence[Variant]) -> Iterator[Answer]:
        """Yields an answer for each variant, whatever becomes of its process."""
        left = list(chosen)
        while left:
            self._connection.send([variant.name for variant in left])
            while left:
                name, array, problem = self._answer()
                yield left.pop(0).name, array, problem
                if not name:
                    break
            self.close()
            if left:
                self._start()

    def _answer(self) -> Answer:
        """Returns the next answer; one without a name says that the process is of no more use."""
        if not self._connection.poll(self._limit):
            return "", None, f"no answer in {self._limit:g} seconds"
        try:
            return self._connection.recv()
        except EOFError:
            return "", None, "the process ended"


def record(
    folder: Path, factory: Factory, chosen: Sequence[Variant], limit: float = LIMIT
) -> dict[str, str]:
    """Writes one .npz a family and meta.json; returns the variants that failed, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    session = Session(factory, limit)
    fitting = [variant for variant in chosen if variant.fits(session.capability)]
    family = {variant.name: variant.family for variant in chosen}
    families: dict[str, dict[str, Array]] = {}
    failed: dict[str, str] = {}
    for name, array, problem in session.run(fitting):
        if array is None:
            failed[name] = problem
        else:
            families.setdefault(family[name], {})[name] = array
    for name, arrays in families.items():
        # The keys of an .npz are file names.
        np.savez_compressed(folder / f"{name}.npz", names=list(arrays), **_numbered(arrays))
    skipped = [variant.target for variant in chosen if not variant.fits(session.capability)]
    meta = {
        **session.description,
        "capability": ".".join(map(str, session.capability)),
        "date": datetime.date.today().isoformat(),
        "ptx": sorted({variant.version for variant in fitting}),
        "recorded": len(fitting) - len(failed),
        "skipped": {target: skipped.count(target) for target in sorted(set(skipped))},
        "failed": failed,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    return failed


def _numbered(arrays: dict[str, Array]) -> dict[str, Any]:
    return {str(number): array for number, array in enumerate(arrays.values())}


def stored(path: Path) -> dict[str, Array]:
    """Returns the results of one family by the names of the variants."""
    with np.load(path) as file:
        return {str(name): file[str(i)] for i, name in enumerate(file["names"])}


def disagreements(results: dict[str, Array], device: Device) -> dict[str, str]:
    """Returns the variants whose results on a device differ from stored ones, and how."""
    known = {variant.name: variant for variant in variants()}
    found = {name: "there is no such variant" for name in results if name not in known}
    chosen = [known[name] for name in results if name in known and known[name].promised]
    for name, array, problem in compute(device, chosen):
        if array is None:
            found[name] = problem
            continue
        wrong = differences(known[name], results[name], array)
        if wrong.size:
            first = int(wrong[0])
            count = f"{wrong.size} of {array.size} differ, the first at {first}"
            pair = f"{int(results[name][first]):#x} was recorded, got {int(array[first]):#x}"
            found[name] = f"{count}: {pair}"
    return found


def write_modules(folder: Path, chosen: Sequence[Variant]) -> None:
    """Writes the modules as PTX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, batch in enumerate(batches(chosen)):
        name = f"{number:03}-{batch[0].family}-{batch[0].target}.ptx"
        (folder / name).write_text(module(batch))


def main() -> int:
    """Records variants; returns 1 where some failed, 2 where there is no device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--on", choices=("gpu", "simulator"), default="gpu")
    parser.add_argument("--only", default="", help="a regular expression")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a variant")
    parser.add_argument("--ptx", type=Path, help="folder to write the modules to instead")
    arguments = parser.parse_args()
    chosen = [v for v in variants() if re.search(arguments.only, f"{v.family} {v.name}")]
    if arguments.ptx:
        write_modules(arguments.ptx, chosen)
        return 0
    if not arguments.out:
        parser.error("expects --out or --ptx")
    factory: Factory = Simulator if arguments.on == "simulator" else Gpu
    try:
        failed = record(arguments.out, factory, chosen, arguments.limit)
    except RuntimeError as error:  # there is no device
        print(error, file=sys.stderr)
        return 2
    for name, why in failed.items():
        print(f"{name}: {why}")
    meta = json.loads((arguments.out / "meta.json").read_text())
    print(f"{meta['recorded']} of {len(chosen)} variants recorded on {meta['device']}")
    print(f"skipped: {meta['skipped'] or 'none'}, failed: {len(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
