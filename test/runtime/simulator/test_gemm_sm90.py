"""Warp-specialised GEMM of CUDA C++ for sm_90a: TMA, mbarriers, wgmma, against NumPy."""

from collections.abc import Callable

import numpy as np
import pytest

from tilewright.runtime import simulator


@pytest.mark.parametrize("name", ["gemm_ss", "gemm_rs"])
@pytest.mark.parametrize(("m", "n", "k"), [(128, 64, 64), (300, 136, 328)])
def test_warp_specialised_gemm(
    name: str, m: int, n: int, k: int, corpus: Callable[[str], str]
) -> None:
    """Whole numbers whose products add up exactly; the second size fits no tile."""
    random = np.random.default_rng()
    a, b = (random.integers(-3, 4, (rows, k)).astype("f2") for rows in (m, n))
    device = simulator.Device("all")
    x, y, c = device.array(a), device.array(b), device.empty((m, n), "f32")
    maps = [
        device.tensor_map(buffer, "f16", (k, rows), (2 * k,), (64, box), swizzle="128B")
        for buffer, rows, box in ((x, m, 128), (y, n, 64))
    ]
    kernel = device.load(corpus("gemm_sm90.ptx"))[name]
    grid = ((n + 63) // 64, (m + 127) // 128)
    kernel.launch(grid, 384, [*maps, c, m, n, k], shared_bytes=3 * 24576)
    assert (c.numpy() == a.astype("f4") @ b.astype("f4").T).all()
