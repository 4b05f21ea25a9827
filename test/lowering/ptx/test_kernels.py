"""Whole kernels by the direct way: against NumPy on the simulator, and through ptxas."""

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.dialects.builtin import FileLineColLoc, IntAttr, IntegerAttr, ModuleOp, StringAttr
from xdsl.dialects.gpu import FuncOp

from tilewright.lowering.ptx import print_ptx
from tilewright.test.lowering.ptx.execute import bf16_bits, bf16_values, launch
from tilewright.test.lowering.ptx.kernels import elementwise, gemm, softmax_rows, vector_add

Array = NDArray[Any]


@pytest.mark.parametrize("count", [1000, 1021])
def test_vector_add(count: int) -> None:
    rng = np.random.default_rng()
    x, y = (rng.standard_normal(count).astype(np.float32) for _ in range(2))
    z = np.zeros_like(x)
    result = launch(vector_add(), [x, y, z, count], grid=(2,), threads=128)[-1]
    np.testing.assert_array_equal(result, x + y)


def test_softmax_of_rows() -> None:
    x = np.random.default_rng().standard_normal((9, 128)).astype(np.float32) * 4
    result = launch(softmax_rows(), [x, np.zeros_like(x)], grid=(9,))[-1]
    exact = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    np.testing.assert_allclose(result, exact / exact.sum(1, keepdims=True), rtol=2e-6, atol=1e-12)


def test_matrix_product() -> None:
    # Sums of 192 small whole numbers are exact in f32, and then rounded to bf16.
    m, n, depth = 128, 64, 192
    rng = np.random.default_rng()
    a, b = rng.integers(-8, 8, (m, depth)), rng.integers(-8, 8, (depth, n))
    arguments = [bf16_bits(a), bf16_bits(b), np.zeros((m, n), np.uint16), n, depth]
    result = launch(gemm(), arguments, (n // 64, m // 64), 128, 32768)[-1]
    np.testing.assert_array_equal(bf16_values(result), bf16_values(bf16_bits(a @ b)))


def test_accumulators_stay_in_place_around_the_loop() -> None:
    text = print_ptx(gemm())
    products = re.findall(r"mma\S+ (\{.*?\}), .*, (\{.*?\});", text)
    assert len(products) == 32
    assert all(result == accumulator for result, accumulator in products)
    loop = text[text.index("mma.sync") : text.rindex("mma.sync")]
    assert "mov" not in loop


def test_kernel_declares_its_block() -> None:
    text = print_ptx(gemm())
    assert ".reqntid 128, 1, 1" in text
    assert ".extern .shared .align 1024 .b8 smem[];" in text


def test_attributes_become_directives() -> None:
    kernel = vector_add()
    for op in kernel.walk():
        if isinstance(op, FuncOp):
            op.attributes["nvvm.minctasm"] = IntegerAttr(2, 32)
            op.attributes["nvvm.maxnreg"] = IntegerAttr(64, 32)
    text = print_ptx(kernel)
    assert re.search(r"\.reqntid 128, 1, 1\n\.minnctapersm 2\n\.maxnreg 64\n\{", text)


@pytest.mark.parametrize(("target", "version"), [("sm_80", "7.4"), ("sm_90a", "8.0")])
def test_header_names_the_target(target: str, version: str) -> None:
    head = print_ptx(vector_add(), target).splitlines()[:3]
    assert head == [f".version {version}", f".target {target}", ".address_size 64"]


def test_lines_of_the_source_are_printed_where_they_change() -> None:
    code = (
        "%s = arith.addi %a, %a : i32\n%m = arith.muli %s, %s : i32\n%r = arith.xori %m, %a : i32"
    )
    module = elementwise(code, ["i32"], "i32")
    lines = {"arith.muli": 7, "arith.xori": 9}
    for op in module.walk():
        if op.name in lines and op.results[0].name_hint in ("m", "r"):
            place = (StringAttr("model.py"), IntAttr(lines[op.name]), IntAttr(3))
            op.location = FileLineColLoc(*place)
    text = print_ptx(module)
    assert '.file 1 "model.py"' in text
    assert re.findall(r"\.loc 1 (\d+) 3\n\t(\S+)", text) == [("7", "mul.lo.s32"), ("9", "xor.b32")]


def _ptxas() -> str | None:
    spec = find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for found in Path(folder).glob("*/bin/ptxas"):
            return str(found)
    return shutil.which("ptxas")


@pytest.mark.skipif(_ptxas() is None, reason="ptxas is not installed (nvidia-cuda-nvcc)")
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("kernel", [vector_add, softmax_rows, gemm])
def test_ptxas_accepts_the_kernel_without_a_word(
    kernel: Callable[[], ModuleOp], target: str, tmp_path: Path
) -> None:
    source = tmp_path / "kernel.ptx"
    source.write_text(print_ptx(kernel(), target))
    command = [str(_ptxas()), f"-arch={target}", str(source), "-o", str(tmp_path / "kernel.cubin")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
