"""
Convolutions of images in NHWC layout, as the published suites have them.

Padding is a block of its own that may be inlined: its load is at an index that is clamped into the
image, and `select` puts 0 where the unclamped one is outside. So no load is out of bounds, guarded
or not. Sums are in f32, those of i8 in i32.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from ...dialects.nest.scalars import is_float
from ...dialects.sym import Expression, floordiv, maximum, minimum
from ..arithmetic import Array
from ..builder import Array as Operand
from ..builder import Builder, Extent
from ..values import Value, select, value_of
from .workload import RangesLike, Workload, extent

_SPATIAL = ("d", "h", "w")
_WINDOW = ("rd", "rh", "rw")


def accumulator_of(dtype: str) -> str:
    """Returns the dtype in which products of a dtype are summed."""
    if is_float(dtype):
        return "f64" if dtype == "f64" else "f32"
    return "i32"


def convolution(
    name: str,
    batch: Extent,
    image: Sequence[Extent],
    channels: int,
    filters: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    dilation: int = 1,
    groups: int = 1,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns a convolution over one to three spatial axes.

    `X[batch, *image, channels]`, `W[kernel.., channels/groups, filters]`, and `Y` of the extents
    `(image + 2*padding - dilation*(kernel-1) - 1) // stride + 1`.
    """
    b = Builder(name, ranges)
    rank = len(image)
    x = b.buffer("X", [batch, *image, channels], dtype)
    w = b.buffer("W", [*[kernel] * rank, channels // groups, filters], dtype)
    sizes = [output_extent(size, kernel, stride, padding, dilation) for size in image]
    y = b.buffer("Y", [batch, *sizes, filters], accumulator_of(dtype), output=True)
    source = padded(b, x, [batch, *image, channels], padding)
    n, *place, f = named_axes(b, ["n", *_SPATIAL[-rank:], "f"], [batch, *sizes, filters])
    *window, c = named_axes(b, [*_WINDOW[-rank:], "c"], [*[kernel] * rank, channels // groups])
    # Without groups the channels do not depend on the filter, which who maps axes relies on.
    first = 0 if groups == 1 else floordiv(f, filters // groups) * (channels // groups)
    taps = [o * stride + r * dilation for o, r in zip(place, window, strict=True)]
    y[(n, *place, f)] += source[(n, *taps, c + first)] * w[(*window, c, f)]
    reference = _Reference(stride, padding, dilation, groups)
    return Workload(b.build(), reference.convolution)


def output_extent(
    size: Extent, kernel: int, stride: int, padding: int, dilation: int = 1
) -> Expression:
    """Returns how many windows an axis has."""
    return floordiv(extent(size) + 2 * padding - dilation * (kernel - 1) - 1, stride) + 1


def named_axes(
    b: Builder, names: Sequence[str], extents: Sequence[Extent]
) -> tuple[Expression, ...]:
    """Returns axes for index notation from names and extents."""
    return b.axes(**dict(zip(names, extents, strict=True)))


def padded(
    b: Builder, x: Operand, shape: Sequence[Extent], padding: int, name: str = "P"
) -> Operand:
    """Returns an image with zeros around its spatial axes, those after the first but the last."""
    if padding == 0:
        return x
    batch, *image, channels = shape
    extents = [batch, *(extent(size) + 2 * padding for size in image), channels]
    target = b.temporary(name, extents, x.buffer.dtype)
    names = ["pn", *(f"p{axis}" for axis in _SPATIAL[-len(image) :]), "pc"]
    n, *place, c = named_axes(b, names, extents)
    clamped: list[Expression] = []
    inside: Value | None = None
    for index, size in zip(place, image, strict=True):
        clamped.append(minimum(maximum(index - padding, 0), extent(size) - 1))
        here = (value_of(index) >= padding) & (value_of(index) < extent(size) + padding)
        inside = here if inside is None else inside & here
    assert inside is not None
    target[(n, *place, c)] = select(inside, x[(n, *clamped, c)], 0)
    return target


def conv1d(
    batch: Extent, length: Extent, channels: int, filters: int, *rest: int, **options: Any
) -> Workload:
    """Returns C1D (N, L, CI, CO, K, S, P); options as those of `convolution`."""
    return convolution("conv1d", batch, [length], channels, filters, *rest, **options)


def conv2d(
    batch: Extent,
    height: Extent,
    width: Extent,
    channels: int,
    filters: int,
    *rest: int,
    **options: Any,
) -> Workload:
    """Returns C2D, DIL, GRP (N, H, W, CI, CO, K, S, P); options as those of `convolution`."""
    return convolution("conv2d", batch, [height, width], channels, filters, *rest, **options)


def conv3d(
    batch: Extent,
    depth: Extent,
    height: Extent,
    width: Extent,
    channels: int,
    filters: int,
    *rest: int,
    **options: Any,
) -> Workload:
    """Returns C3D (N, D, H, W, CI, CO, K, S, P); options as those of `convolution`."""
    image = [depth, height, width]
    return convolution("conv3d", batch, image, channels, filters, *rest, **options)


def depthwise(
    batch: Extent,
    height: Extent,
    width: Extent,
    channels: Extent,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """Returns DEP (N, H, W, C, K, S, P): each channel has a filter of its own."""
    b = Builder("depthwise", ranges)
    shape = [batch, height, width, channels]
    x = b.buffer("X", shape, dtype)
    w = b.buffer("W", [kernel, kernel, channels], dtype)
    sizes = [output_extent(size, kernel, stride, padding) for size in (height, width)]
    y = b.buffer("Y", [batch, *sizes, channels], accumulator_of(dtype), output=True)
    source = padded(b, x, shape, padding)
    n, i, j, c = named_axes(b, ["n", "h", "w", "c"], [batch, *sizes, channels])
    r, s = b.axes(rh=kernel, rw=kernel)
    y[n, i, j, c] += source[n, i * stride + r, j * stride + s, c] * w[r, s, c]
    return Workload(b.build(), _Reference(stride, padding).depthwise)


def transposed(
    batch: Extent,
    height: Extent,
    width: Extent,
    channels: int,
    filters: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns T2D (N, H, W, CI, CO, K, S, P), the gradient of a convolution by its image.

    `Y` has the extents `(image - 1)*stride + kernel - 2*padding`. `D` is the image spread out by
    the stride, with zeros between and around.
    """
    b = Builder("transposed", ranges)
    x = b.buffer("X", [batch, height, width, channels], dtype)
    w = b.buffer("W", [kernel, kernel, channels, filters], dtype)
    sizes = [(extent(size) - 1) * stride + kernel - 2 * padding for size in (height, width)]
    y = b.buffer("Y", [batch, *sizes, filters], accumulator_of(dtype), output=True)
    spread = _spread(b, x, [batch, height, width, channels], kernel, stride, padding)
    n, i, j, f = named_axes(b, ["n", "h", "w", "f"], [batch, *sizes, filters])
    r, s, c = b.axes(rh=kernel, rw=kernel, c=channels)
    y[n, i, j, f] += spread[n, i + r, j + s, c] * w[kernel - 1 - r, kernel - 1 - s, c, f]
    return Workload(b.build(), _Reference(stride, padding).transposed)


def _spread(
    b: Builder, x: Operand, shape: Sequence[Extent], kernel: int, stride: int, padding: int
) -> Operand:
    batch, *image, channels = shape
    border = kernel - 1 - padding
    sizes = [(extent(size) - 1) * stride + 1 + 2 * border for size in image]
    target = b.temporary("D", [batch, *sizes, channels], x.buffer.dtype)
    n, *place, c = named_axes(b, ["pn", "ph", "pw", "pc"], [batch, *sizes, channels])
    source: list[Expression] = []
    inside: Value | None = None
    for index, size in zip(place, image, strict=True):
        # Never negative, so that division is that of every machine.
        shifted = index + (stride - border % stride) % stride
        first = (border + stride - 1) // stride
        position = floordiv(shifted, stride) - first
        source.append(minimum(maximum(position, 0), extent(size) - 1))
        here = value_of(shifted % stride).equals(0)
        here = here & (value_of(index) >= border)
        here = here & (value_of(index) <= (extent(size) - 1) * stride + border)
        inside = here if inside is None else inside & here
    assert inside is not None
    target[(n, *place, c)] = select(inside, x[(n, *source, c)], 0)
    return target


def capsule(
    batch: Extent,
    height: Extent,
    width: Extent,
    channels: int,
    filters: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    size: int = 4,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns CAP (N, H, W, CI, CO, K, S, P): pixels and weights are matrices of `size` x `size`.

    `X[n, h, w, c, size, size]`, `W[kernel, kernel, c, f, size, size]`.
    """
    b = Builder("capsule", ranges)
    x = b.buffer("X", [batch, height, width, channels, size, size], dtype)
    w = b.buffer("W", [kernel, kernel, channels, filters, size, size], dtype)
    sizes = [output_extent(axis, kernel, stride, padding) for axis in (height, width)]
    y = b.buffer("Y", [batch, *sizes, filters, size, size], accumulator_of(dtype), output=True)
    source = _padded_capsules(b, x, [batch, height, width, channels, size], padding)
    names = ["n", "h", "w", "f", "u", "v"]
    n, i, j, f, u, v = named_axes(b, names, [batch, *sizes, filters, size, size])
    r, s, c, k = b.axes(rh=kernel, rw=kernel, c=channels, k=size)
    y[n, i, j, f, u, v] += source[n, i * stride + r, j * stride + s, c, u, k] * w[r, s, c, f, k, v]
    return Workload(b.build(), _Reference(stride, padding).capsule)


def _padded_capsules(b: Builder, x: Operand, shape: Sequence[Extent], padding: int) -> Operand:
    if padding == 0:
        return x
    batch, height, width, channels, size = shape
    tall, wide = (extent(axis) + 2 * padding for axis in (height, width))
    target = b.temporary("P", [batch, tall, wide, channels, size, size], x.buffer.dtype)
    names = ["pn", "ph", "pw", "pc", "pu", "pv"]
    n, i, j, c, u, v = named_axes(b, names, [batch, tall, wide, channels, size, size])
    row, column = (
        minimum(maximum(index - padding, 0), extent(axis) - 1)
        for index, axis in ((i, height), (j, width))
    )
    inside = (value_of(i) >= padding) & (value_of(i) < extent(height) + padding)
    inside = inside & (value_of(j) >= padding) & (value_of(j) < extent(width) + padding)
    target[n, i, j, c, u, v] = select(inside, x[n, row, column, c, u, v], 0)
    return target


def conv_bn_relu(
    batch: Extent,
    height: Extent,
    width: Extent,
    channels: int,
    filters: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    dtype: str = "f32",
    ranges: RangesLike = "",
) -> Workload:
    """
    Returns CBR: `max((conv2d(X, W) + bias)*scale + offset, 0)`, a block each.

    `scale` and `offset`, one a filter, are what batch normalisation is at inference.
    """
    b = Builder("conv_bn_relu", ranges)
    dtype_of_sum = accumulator_of(dtype)
    shape = [batch, height, width, channels]
    x, w = b.buffer("X", shape, dtype), b.buffer("W", [kernel, kernel, channels, filters], dtype)
    bias, scale, offset = (
        b.buffer(name, [filters], dtype_of_sum) for name in ("bias", "scale", "offset")
    )
    sizes = [output_extent(size, kernel, stride, padding) for size in (height, width)]
    result = [batch, *sizes, filters]
    y = b.buffer("Y", result, dtype_of_sum, output=True)
    source = padded(b, x, shape, padding)
    total, shifted, scaled = (b.temporary(name, result, dtype_of_sum) for name in ("C", "B", "N"))
    n, i, j, f = named_axes(b, ["n", "h", "w", "f"], result)
    r, s, c = b.axes(rh=kernel, rw=kernel, c=channels)
    total[n, i, j, f] += source[n, i * stride + r, j * stride + s, c] * w[r, s, c, f]
    shifted[n, i, j, f] = total[n, i, j, f] + bias[f]
    scaled[n, i, j, f] = shifted[n, i, j, f] * scale[f] + offset[f]
    y[n, i, j, f] = select(scaled[n, i, j, f] > 0.0, scaled[n, i, j, f], 0.0)
    return Workload(b.build(), _Reference(stride, padding).conv_bn_relu)


class _Reference:
    """Convolutions in f64, a tap after the other on strided slices of the whole image."""

    def __init__(self, stride: int, padding: int, dilation: int = 1, groups: int = 1) -> None:
        self.stride, self.padding = stride, padding
        self.dilation, self.groups = dilation, groups

    def convolution(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        x, w = arrays["X"], arrays["W"]
        rank = x.ndim - 2
        image = self._padded(x, rank)
        inputs, outputs = x.shape[-1] // self.groups, w.shape[-1] // self.groups
        parts: list[Array] = []
        for group in range(self.groups):
            mine = image[..., group * inputs : (group + 1) * inputs]
            theirs = w[..., group * outputs : (group + 1) * outputs]
            products = [self._tap(mine, tap, w) @ theirs[tap] for tap in _taps(w, rank)]
            parts.append(np.asarray(sum(products)))
        return {"Y": np.concatenate(parts, axis=-1)}

    def depthwise(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        x, w = arrays["X"], arrays["W"]
        image = self._padded(x, 2)
        return {"Y": np.asarray(sum(self._tap(image, tap, w) * w[tap] for tap in _taps(w, 2)))}

    def capsule(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        x, w = arrays["X"], arrays["W"]
        image = self._padded(x, 2)
        parts = [
            np.einsum("nhwcuk,cfkv->nhwfuv", self._tap(image, tap, w), w[tap])
            for tap in _taps(w, 2)
        ]
        return {"Y": np.asarray(sum(parts))}

    def conv_bn_relu(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        total = self.convolution(arrays)["Y"]
        scaled = (total + arrays["bias"]) * arrays["scale"] + arrays["offset"]
        return {"Y": np.maximum(scaled, 0)}

    def transposed(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Adds what each pixel gives to a window of the result, then crops the border."""
        x, w = arrays["X"], arrays["W"]
        n, height, width, _ = x.shape
        kernel, stride, cut = w.shape[0], self.stride, self.padding
        tall, wide = ((size - 1) * stride + kernel for size in (height, width))
        whole = np.zeros((n, tall, wide, w.shape[-1]), x.dtype)
        for row, column in np.ndindex(height, width):
            part = np.einsum("nc,rscf->nrsf", x[:, row, column], w)
            top, left = row * stride, column * stride
            whole[:, top : top + kernel, left : left + kernel] += part
        return {"Y": whole[:, cut : tall - cut, cut : wide - cut]}

    def _padded(self, x: Array, rank: int) -> Array:
        border = [(self.padding, self.padding)] * rank
        return np.pad(x, [(0, 0), *border, *[(0, 0)] * (x.ndim - rank - 1)])

    def _tap(self, image: Array, tap: tuple[int, ...], w: Array) -> Array:
        """Returns the pixels that one tap of the window meets, for all windows."""
        slices = [slice(None)]
        for position, (axis, size) in enumerate(zip(tap, w.shape, strict=False)):
            start, span = axis * self.dilation, (size - 1) * self.dilation
            end = image.shape[position + 1] - span + start
            slices.append(slice(start, end, self.stride))
        return image[tuple(slices)]


def _taps(w: Array, rank: int) -> list[tuple[int, ...]]:
    return list(product(*(range(size) for size in w.shape[:rank])))
