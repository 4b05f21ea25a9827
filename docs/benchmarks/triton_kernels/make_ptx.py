"""
Compiles the kernels of Triton's own tutorials to PTX for sm_80 and sm_90a; needs no GPU.

    python -m venv aside && aside/bin/pip install triton
    git clone --depth 1 --branch v3.9.0 https://github.com/triton-lang/triton
    aside/bin/python docs/benchmarks/triton_kernels/make_ptx.py triton/python/tutorials build/ptx

The tag of the clone is the version that pip installed. Each kernel is written as NAME.ptx with
NAME.json beside it: entry, threads, bytes of shared memory, CTAs of a cluster, bytes of scratch
memory, constants, and the arguments in their order. What Triton can't compile is reported and left
out. Some text may be given as third argument; then only kernels whose names have it are made.
"""

import json
import sys
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from tutorials import WHOLE, Kernel, functions, kernels

SWIZZLES = ("none", "32B", "64B", "128B")


def compiled(kernel: Kernel, function: Any, capability: int) -> Any:
    """Returns what Triton makes of a kernel, specialised as a launch would specialise it."""
    types = {name: kind.partition(":")[0] for name, kind in kernel.arguments.items()}
    whole = {x for x, kind in kernel.arguments.items() if kind[0] == "*" or kind.endswith(":16")}
    places = {name: place for place, name in enumerate(function.arg_names)}
    source = ASTSource(
        fn=function,
        signature={x: types.get(x, "constexpr") for x in function.arg_names},
        constexprs=kernel.constants,
        attrs={(places[name],): [["tt.divisibility", 16]] for name in whole},
    )
    options = {"num_warps": kernel.warps, "num_stages": kernel.stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def arguments(kernel: Kernel, function: Any, metadata: Any) -> list[list[Any]]:
    """Returns names and kinds of a launch's arguments; for descriptors box and swizzle too."""
    found: list[list[Any]] = []
    boxes = iter(metadata.tensordesc_meta or ())
    for name in function.arg_names:
        kind = kernel.arguments.get(name)
        if kind is None:
            continue
        if kind.startswith("tensordesc"):
            box = next(boxes)
            swizzle = SWIZZLES[box["swizzle"]]
            found.append([name, "descriptor", list(box["block_size"]), swizzle])
        else:
            found.append([name, "pointer" if kind[0] == "*" else "number"])
    return found


def write(kernel: Kernel, function: Any, capability: int, folder: Path) -> None:
    """Writes the PTX of one kernel and what a launch needs to know."""
    made = compiled(kernel, function, capability)
    metadata = made.metadata
    stem = f"{kernel.name}.sm_{capability}"
    facts = {
        "entry": metadata.name,
        "function": kernel.function,
        "threads": int(made.asm["ptx"].partition(".reqntid ")[2].split()[0].rstrip(",")),
        "shared_bytes": metadata.shared,
        "cluster": metadata.num_ctas,
        "scratch": [metadata.global_scratch_size, metadata.profile_scratch_size],
        "constants": kernel.constants,
        "multiples_of_16": [x for x, kind in kernel.arguments.items() if kind == WHOLE],
        "arguments": arguments(kernel, function, metadata),
    }
    (folder / f"{stem}.ptx").write_text(made.asm["ptx"])
    (folder / f"{stem}.json").write_text(json.dumps(facts))
    print(f"{stem}: {facts['threads']} threads, {facts['shared_bytes']} bytes of shared memory")


def main() -> None:
    """Writes every kernel for its targets."""
    tutorials, folder, *only = sys.argv[1:]
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    known: dict[str, dict[str, Any]] = {}
    for kernel in kernels():
        if only and only[0] not in kernel.name:
            continue
        if kernel.tutorial not in known:
            known[kernel.tutorial] = functions(Path(tutorials) / f"{kernel.tutorial}.py")
        for capability in kernel.capabilities:
            try:
                write(kernel, known[kernel.tutorial][kernel.function], capability, out)
            except Exception as problem:
                first = (str(problem).strip().splitlines() or [""])[0]
                print(f"{kernel.name}.sm_{capability}: {type(problem).__name__}: {first}")


if __name__ == "__main__":
    main()
