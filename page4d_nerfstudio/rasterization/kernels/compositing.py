"""Front-to-back compositing of projected Gaussians in tiles of 16x16 pixels, and its gradient.

A tile keeps one row of 256 numbers per quantity, pixel after pixel, and goes through its Gaussians one by one; the
inner loops run over pixels, without branches, and compile to vector instructions. Two things follow from that:

- the exponential is a polynomial of its own, since a call into the C library would end the vectors;
- what forward and backward both compute must agree to the last bit, or a pixel near a threshold would be drawn in one
  and not in the other. Every product that is summed is therefore an explicit fused multiply-add, and only the sums over
  pixels (`_moments`, `_absolute_moments`, `_weighted_sum`) allow the compiler to reorder.
"""

# mypy: ignore-errors
# (numba's types are not Python's: an intrinsic is called without its first argument, and a float32 is no float.)

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

Array = npt.NDArray[Any]  # float32 or float64

# Side of a tile in pixels, gsplat's default, and its area. Part of the semantics: a Gaussian ends where its tiles end.
TILE_SIZE = 16
_AREA = TILE_SIZE * TILE_SIZE

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_MAX_ALPHA = np.float32(0.999)
_MIN_ALPHA = np.float32(1.0 / 255.0)
_MIN_TRANSMITTANCE = np.float32(1e-4)

# exp(x) = 2^n exp(f), n = round(x / ln 2), f = x - n ln 2 in two steps, exp(f) by the polynomial of Cephes' expf
# (Moshier 1989), which is good to one unit in the last place for |f| <= ln(2) / 2.
_LOWEST_EXPONENT = np.float32(-87.0)
_INVERSE_LN2 = np.float32(1.44269504088896341)
_ROUNDER = np.float32(12582912.0)  # 1.5 * 2^23: adding it leaves round(x) in the low bits of the sum
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_P5, _P4, _P3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P2, _P1, _P0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)


@intrinsic
def _fma(typing_context, a, b, c):
    """a * b + c, rounded once; float32."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def _times_power_of_two(typing_context, value, rounded):
    """value * 2^n, with n in the low bits of `rounded`: added to the exponent's bits; float32."""

    def generate(context, builder, signature, arguments):
        int32 = ir.IntType(32)
        bits, n = (builder.bitcast(argument, int32) for argument in arguments)
        return builder.bitcast(builder.add(bits, builder.shl(n, ir.Constant(int32, 23))), ir.FloatType())

    return types.float32(types.float32, types.float32), generate


@njit(cache=True, nogil=True, error_model="numpy")
def _exp(x: float) -> float:
    """exp(x) for x of up to 80; below -87 that of -87."""
    x = max(x, _LOWEST_EXPONENT)
    rounded = _fma(x, _INVERSE_LN2, _ROUNDER)
    n = rounded - _ROUNDER
    f = _fma(n, -_LN2_LOW, _fma(n, -_LN2_HIGH, x))
    p = _fma(_fma(_fma(_fma(_fma(_P5, f, _P4), f, _P3), f, _P2), f, _P1), f, _P0)
    return _times_power_of_two(_fma(p, f * f, f) + _ONE, rounded)


@njit(cache=True, nogil=True, error_model="numpy")
def _within(value: float, limit: int) -> float:
    """Clamped to [0, limit], before it is made an integer: large floats don't fit one."""
    return min(float(limit), max(0.0, value))


@njit(cache=True, nogil=True, error_model="numpy")
def bin_gaussians(
    order: Array,  # [V] visible Gaussians (indices into C * N), front to back
    means2d: Array,  # [C * N, 2]
    conics: Array,  # [C * N, 3]
    opacities: Array,  # [C * N]
    radii: Array,  # [C * N]
    n_gaussians: int,
    n_cameras: int,
    tiles_x: int,
    tiles_y: int,
    rows: Array,  # [C * N, 2] out: first and last (exclusive) row of pixels in which a Gaussian can be drawn
) -> tuple[Array, Array, Array, Array]:
    """Lists the Gaussians of each tile, front to back.

    A Gaussian is listed where gsplat lists it, in the tiles that the square of its radius touches, less the tiles in
    which its alpha stays below the threshold: that changes nothing in the image.

    Returns:
        `starts` [C * tiles + 1] of the tiles' lists in `listed`, the Gaussians; `firsts` [V + 1] of the Gaussians'
        entries in `entries`, which says where in `listed` they are.
    """
    n_visible = order.shape[0]
    n_tiles = n_cameras * tiles_x * tiles_y
    boxes = np.zeros((n_visible, 4), np.int64)
    firsts = np.zeros(n_visible + 1, np.int64)
    starts = np.zeros(n_tiles + 1, np.int64)
    for i in range(n_visible):
        g = order[i]
        x, y, radius = np.float64(means2d[g, 0]), np.float64(means2d[g, 1]), np.float64(radii[g])
        # opacity * exp(-sigma) >= 1/255 ends at sigma = ln(255 opacity): an ellipse, whose box this is, with some slack
        # for what float32 makes of sigma.
        last_sigma = math.log(255.0 * opacities[g]) + 0.01
        if not last_sigma > 0.0:
            firsts[i + 1] = firsts[i]
            continue
        p_xx, p_xy, p_yy = np.float64(conics[g, 0]), np.float64(conics[g, 1]), np.float64(conics[g, 2])
        determinant = p_xx * p_yy - p_xy * p_xy
        half_width, half_height = np.inf, np.inf
        if determinant > 0.0:
            half_width = math.sqrt(2.0 * last_sigma * p_yy / determinant) + 0.01
            half_height = math.sqrt(2.0 * last_sigma * p_xx / determinant) + 0.01
        rows[g, 0] = math.ceil(_within(y - half_height - 0.5, tiles_y * TILE_SIZE))
        rows[g, 1] = math.floor(_within(y + half_height - 0.5, tiles_y * TILE_SIZE)) + 1
        half_width, half_height = min(radius, half_width), min(radius, half_height)
        boxes[i, 0] = math.floor(_within((x - half_width) / TILE_SIZE, tiles_x))
        boxes[i, 1] = math.ceil(_within((x + half_width) / TILE_SIZE, tiles_x))
        boxes[i, 2] = math.floor(_within((y - half_height) / TILE_SIZE, tiles_y))
        boxes[i, 3] = math.ceil(_within((y + half_height) / TILE_SIZE, tiles_y))
        camera = g // n_gaussians
        for tile_y in range(boxes[i, 2], boxes[i, 3]):
            for tile_x in range(boxes[i, 0], boxes[i, 1]):
                starts[(camera * tiles_y + tile_y) * tiles_x + tile_x + 1] += 1
        firsts[i + 1] = firsts[i] + (boxes[i, 1] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 2])
    for tile in range(n_tiles):
        starts[tile + 1] += starts[tile]

    listed = np.empty(firsts[n_visible], np.int32)
    entries = np.empty(firsts[n_visible], np.int32)
    free = starts[:n_tiles].copy()
    entry = 0
    for i in range(n_visible):
        camera = order[i] // n_gaussians
        for tile_y in range(boxes[i, 2], boxes[i, 3]):
            for tile_x in range(boxes[i, 0], boxes[i, 1]):
                tile = (camera * tiles_y + tile_y) * tiles_x + tile_x
                listed[free[tile]] = order[i]
                entries[entry] = free[tile]
                free[tile] += 1
                entry += 1
    return starts, listed, firsts, entries


@njit(cache=True, nogil=True, error_model="numpy")
def _pixel_centres() -> tuple[Array, Array]:
    """x and y of a tile's pixels, from its corner: [256] each."""
    xs, ys = np.empty(_AREA, np.float32), np.empty(_AREA, np.float32)
    for i in range(_AREA):
        xs[i], ys[i] = np.float32(i % TILE_SIZE) + _HALF, np.float32(i // TILE_SIZE) + _HALF
    return xs, ys


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(
    first: int,
    last: int,
    index: float,
    x: float,
    y: float,
    half_xx: float,
    xy: float,
    half_yy: float,
    opacity: float,
    xs: Array,
    ys: Array,
    running: Array,
    final: Array,
    drawn_last: Array,
    weights: Array,
) -> None:
    """One Gaussian over pixels `first` to `last`: its weights, and the transmittances behind it.

    `running` is the transmittance that the next Gaussian meets, 0 once the pixel is done; `final` keeps its last value.
    """
    for i in range(np.uint32(first), np.uint32(last)):
        dx, dy = x - xs[i], y - ys[i]
        sigma = _fma(dx, _fma(half_xx, dx, xy * dy), half_yy * dy * dy)
        alpha = min(_MAX_ALPHA, opacity * _exp(-sigma))
        here = running[i]
        behind = here * (_ONE - alpha)
        seen = (sigma >= _ZERO) & (alpha >= _MIN_ALPHA)
        drawn = seen & (behind > _MIN_TRANSMITTANCE)
        weights[i] = alpha * here if drawn else _ZERO
        final[i] = behind if drawn else final[i]
        drawn_last[i] = index if drawn else drawn_last[i]
        running[i] = (behind if drawn else _ZERO) if seen else here


@njit(cache=True, nogil=True, error_model="numpy")
def _add_scaled(first: int, last: int, values: Array, factor: float, sums: Array) -> None:
    for i in range(np.uint32(first), np.uint32(last)):
        sums[i] = _fma(values[i], factor, sums[i])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "nsz", "reassoc"})
def _maximum(values: Array) -> float:
    largest = values[0]
    for i in range(_AREA):
        largest = max(largest, values[i])
    return largest


@njit(cache=True, nogil=True, error_model="numpy")
def composite(
    first: int,
    last: int,
    starts: Array,  # [C * tiles + 1]
    listed: Array,  # [I]
    rows: Array,  # [C * N, 2]
    means2d: Array,  # [C * N, 2]
    conics: Array,  # [C * N, 3]
    opacities: Array,  # [C * N]
    colors: Array,  # [C * N, D]
    backgrounds: Array,  # [C, D]
    width: int,
    height: int,
    render: Array,  # [C, H, W, D] out, as all below
    alphas: Array,  # [C, H, W]
    transmittances: Array,  # [C, H, W]
    last_drawn: Array,  # [C, H, W] place in the tile's list of the last Gaussian drawn, -1 for none
) -> None:
    """Composites tiles `first` to `last`."""
    tiles_x, tiles_y = (width + TILE_SIZE - 1) // TILE_SIZE, (height + TILE_SIZE - 1) // TILE_SIZE
    n_channels = colors.shape[1]
    xs, ys = _pixel_centres()
    running, final = np.empty(_AREA, np.float32), np.empty(_AREA, np.float32)
    # The place in the list is a float, like everything else in the vectors: exact up to 16 million Gaussians per tile.
    drawn_last, weights = np.empty(_AREA, np.float32), np.empty(_AREA, np.float32)
    sums = np.empty((n_channels, _AREA), np.float32)
    for tile in range(first, last):
        camera, within = tile // (tiles_x * tiles_y), tile % (tiles_x * tiles_y)
        left, top = within % tiles_x * TILE_SIZE, within // tiles_x * TILE_SIZE
        n_rows, n_columns = min(TILE_SIZE, height - top), min(TILE_SIZE, width - left)
        for i in range(_AREA):
            running[i] = _ONE if (i // TILE_SIZE < n_rows) & (i % TILE_SIZE < n_columns) else _ZERO
        final[:] = _ONE
        drawn_last[:] = -_ONE
        sums[:] = _ZERO

        start = starts[tile]
        for place in range(starts[tile + 1] - start):
            g = listed[start + place]
            first_pixel = max(0, rows[g, 0] - top) * TILE_SIZE
            last_pixel = min(n_rows, rows[g, 1] - top) * TILE_SIZE
            if first_pixel >= last_pixel:
                continue
            x, y = means2d[g, 0] - np.float32(left), means2d[g, 1] - np.float32(top)
            half_xx, xy, half_yy = _HALF * conics[g, 0], conics[g, 1], _HALF * conics[g, 2]
            _draw(
                first_pixel,
                last_pixel,
                np.float32(place),
                x,
                y,
                half_xx,
                xy,
                half_yy,
                opacities[g],
                xs,
                ys,
                running,
                final,
                drawn_last,
                weights,
            )
            for channel in range(n_channels):
                _add_scaled(first_pixel, last_pixel, weights, colors[g, channel], sums[channel])
            # Now and then is enough: what is drawn on pixels that are done has weight 0.
            if place % 8 == 7 and _maximum(running) == _ZERO:
                break

        for row in range(n_rows):
            for column in range(n_columns):
                i = row * TILE_SIZE + column
                for channel in range(n_channels):
                    render[camera, top + row, left + column, channel] = _fma(
                        final[i], backgrounds[camera, channel], sums[channel, i]
                    )
                alphas[camera, top + row, left + column] = _ONE - final[i]
                transmittances[camera, top + row, left + column] = final[i]
                last_drawn[camera, top + row, left + column] = np.int32(drawn_last[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_backward(
    first: int,
    last: int,
    index: float,
    x: float,
    y: float,
    half_xx: float,
    xy: float,
    half_yy: float,
    opacity: float,
    xs: Array,
    ys: Array,
    drawn_last: Array,
    along: Array,
    behind: Array,
    transmittance: Array,
    weights: Array,
    grad_sigma: Array,
) -> None:
    """One Gaussian over pixels `first` to `last`, back to front: its weights, and the loss's gradient in sigma.

    `transmittance` and `behind` come as those behind the Gaussian and leave as those before it: what reaches it of the
    light, and what the light behind it adds to the loss, to first order. `along` is what its colour adds, at weight 1.
    With T_before = T_behind / (1 - alpha), the derivative by alpha is T_before * along - behind / (1 - alpha).
    """
    for i in range(np.uint32(first), np.uint32(last)):
        dx, dy = x - xs[i], y - ys[i]
        sigma = _fma(dx, _fma(half_xx, dx, xy * dy), half_yy * dy * dy)
        unclamped = opacity * _exp(-sigma)
        alpha = min(_MAX_ALPHA, unclamped)
        drawn = (sigma >= _ZERO) & (alpha >= _MIN_ALPHA) & (index <= drawn_last[i])
        inverse = _ONE / (_ONE - alpha)
        before = transmittance[i] * inverse
        weight = alpha * before
        grad_alpha = before * along[i] - behind[i] * inverse
        weights[i] = weight if drawn else _ZERO
        grad_sigma[i] = -unclamped * grad_alpha if drawn & (unclamped <= _MAX_ALPHA) else _ZERO
        behind[i] = behind[i] + weight * along[i] if drawn else behind[i]
        transmittance[i] = before if drawn else transmittance[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
def _moments(
    first: int, last: int, x: float, y: float, values: Array, xs: Array, ys: Array
) -> tuple[float, float, float, float, float, float]:
    """Sums over pixels of v, v dx, v dy, v dx^2, v dx dy, v dy^2."""
    m, m_x, m_y, m_xx, m_xy, m_yy = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(np.uint32(first), np.uint32(last)):
        dx, dy = x - xs[i], y - ys[i]
        v_x, v_y = values[i] * dx, values[i] * dy
        m += values[i]
        m_x += v_x
        m_y += v_y
        m_xx += v_x * dx
        m_xy += v_x * dy
        m_yy += v_y * dy
    return m, m_x, m_y, m_xx, m_xy, m_yy


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
def _absolute_moments(
    first: int,
    last: int,
    x: float,
    y: float,
    p_xx: float,
    p_xy: float,
    p_yy: float,
    values: Array,
    xs: Array,
    ys: Array,
) -> tuple[float, float]:
    """Sums over pixels of |v (p_xx dx + p_xy dy)| and |v (p_xy dx + p_yy dy)|."""
    sum_x, sum_y = _ZERO, _ZERO
    for i in range(np.uint32(first), np.uint32(last)):
        dx, dy = x - xs[i], y - ys[i]
        sum_x += abs(values[i] * (p_xx * dx + p_xy * dy))
        sum_y += abs(values[i] * (p_xy * dx + p_yy * dy))
    return sum_x, sum_y


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
def _weighted_sum(first: int, last: int, weights: Array, values: Array) -> float:
    total = _ZERO
    for i in range(np.uint32(first), np.uint32(last)):
        total += weights[i] * values[i]
    return total


# What one Gaussian gets from one tile: gradients of its mean (2), of its conic (3) and opacity, absolute gradients of
# its mean (2), then those of its D colours.
_MEAN, _CONIC, _OPACITY, _ABSOLUTE, _COLOR = 0, 2, 5, 6, 8
SHARES_BEFORE_COLORS = _COLOR


@njit(cache=True, nogil=True, error_model="numpy")
def composite_backward(
    first: int,
    last: int,
    starts: Array,  # [C * tiles + 1]
    listed: Array,  # [I]
    rows: Array,  # [C * N, 2]
    means2d: Array,  # [C * N, 2]
    conics: Array,  # [C * N, 3]
    opacities: Array,  # [C * N]
    colors: Array,  # [C * N, D]
    backgrounds: Array,  # [C, D]
    width: int,
    height: int,
    transmittances: Array,  # [C, H, W]
    last_drawn: Array,  # [C, H, W]
    grad_render: Array,  # [C, H, W, D]
    grad_alphas: Array,  # [C, H, W]
    absgrad: bool,
    shares: Array,  # [I, 8 + D] out; zeros come in
) -> None:
    """Gradients of what tiles `first` to `last` list, entry by entry."""
    tiles_x, tiles_y = (width + TILE_SIZE - 1) // TILE_SIZE, (height + TILE_SIZE - 1) // TILE_SIZE
    n_channels = colors.shape[1]
    xs, ys = _pixel_centres()
    drawn_last, along = np.empty(_AREA, np.float32), np.empty(_AREA, np.float32)
    transmittance, behind = np.empty(_AREA, np.float32), np.empty(_AREA, np.float32)
    weights, grad_sigma = np.empty(_AREA, np.float32), np.empty(_AREA, np.float32)
    grads = np.empty((n_channels, _AREA), np.float32)
    for tile in range(first, last):
        camera, within = tile // (tiles_x * tiles_y), tile % (tiles_x * tiles_y)
        left, top = within % tiles_x * TILE_SIZE, within // tiles_x * TILE_SIZE
        n_rows, n_columns = min(TILE_SIZE, height - top), min(TILE_SIZE, width - left)
        drawn_last[:] = -_ONE
        grads[:] = _ZERO
        behind[:] = _ZERO
        transmittance[:] = _ONE
        for row in range(n_rows):
            for column in range(n_columns):
                i = row * TILE_SIZE + column
                drawn_last[i] = last_drawn[camera, top + row, left + column]
                transmittance[i] = transmittances[camera, top + row, left + column]
                # Behind everything are the background, and 1 - alpha.
                total = -grad_alphas[camera, top + row, left + column]
                for channel in range(n_channels):
                    grads[channel, i] = grad_render[camera, top + row, left + column, channel]
                    total += backgrounds[camera, channel] * grads[channel, i]
                behind[i] = transmittance[i] * total

        start = starts[tile]
        for place in range(int(_maximum(drawn_last)), -1, -1):
            g = listed[start + place]
            first_pixel = max(0, rows[g, 0] - top) * TILE_SIZE
            last_pixel = min(n_rows, rows[g, 1] - top) * TILE_SIZE
            if first_pixel >= last_pixel:
                continue
            x, y = means2d[g, 0] - np.float32(left), means2d[g, 1] - np.float32(top)
            p_xx, p_xy, p_yy, opacity = conics[g, 0], conics[g, 1], conics[g, 2], opacities[g]
            along[:] = _ZERO
            for channel in range(n_channels):
                _add_scaled(first_pixel, last_pixel, grads[channel], colors[g, channel], along)
            _draw_backward(
                first_pixel,
                last_pixel,
                np.float32(place),
                x,
                y,
                _HALF * p_xx,
                p_xy,
                _HALF * p_yy,
                opacity,
                xs,
                ys,
                drawn_last,
                along,
                behind,
                transmittance,
                weights,
                grad_sigma,
            )
            share = shares[start + place]
            m, m_x, m_y, m_xx, m_xy, m_yy = _moments(first_pixel, last_pixel, x, y, grad_sigma, xs, ys)
            share[_MEAN], share[_MEAN + 1] = p_xx * m_x + p_xy * m_y, p_xy * m_x + p_yy * m_y
            share[_CONIC], share[_CONIC + 1], share[_CONIC + 2] = _HALF * m_xx, m_xy, _HALF * m_yy
            share[_OPACITY] = -m / opacity
            if absgrad:
                share[_ABSOLUTE], share[_ABSOLUTE + 1] = _absolute_moments(
                    first_pixel, last_pixel, x, y, p_xx, p_xy, p_yy, grad_sigma, xs, ys
                )
            for channel in range(n_channels):
                share[_COLOR + channel] = _weighted_sum(first_pixel, last_pixel, weights, grads[channel])


@njit(cache=True, nogil=True, error_model="numpy")
def gather_shares(
    first: int,
    last: int,
    order: Array,  # [V]
    firsts: Array,  # [V + 1]
    entries: Array,  # [I]
    shares: Array,  # [I, 8 + D]
    grad_means2d: Array,  # [C * N, 2] out, as all below; zeros come in
    grad_conics: Array,  # [C * N, 3]
    grad_opacities: Array,  # [C * N]
    absolute: Array,  # [C * N, 2]
    grad_colors: Array,  # [C * N, D]
) -> None:
    """Adds up, tile after tile, what visible Gaussians `first` to `last` got."""
    for i in range(first, last):
        g = order[i]
        for entry in range(firsts[i], firsts[i + 1]):
            share = shares[entries[entry]]
            for k in range(2):
                grad_means2d[g, k] += share[_MEAN + k]
                absolute[g, k] += share[_ABSOLUTE + k]
            for k in range(3):
                grad_conics[g, k] += share[_CONIC + k]
            grad_opacities[g] += share[_OPACITY]
            for k in range(grad_colors.shape[1]):
                grad_colors[g, k] += share[_COLOR + k]
