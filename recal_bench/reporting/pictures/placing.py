"""Names in a picture, put so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

_RADII = np.array([3.0, 6, 9, 13, 18, 24, 31, 39, 48, 60, 75, 95, 120, 150, 190, 240])
_N_ANGLES = 24
_APART, _OFF_MARKS = 1.5, 4.0
"""Points (1/72 inch): how far names are tried from their points, how far texts are apart, and off the marks."""
_ON_A_LINE = 4.0
"""How much farther, in points, a name may be to cover one point less of the lines."""
_LED_FROM = 7.0
_CROSSED = 30.0
_ON_THE_WAY = np.linspace(0, 1, 9)[:, None]
_DENSITY = 3.0

Array = NDArray[np.float64]


class Name(NamedTuple):
    """A name and the point it belongs to, in the axes' units."""

    text: str
    x: float
    y: float
    colour: str
    size: float


def write_names(
    axes: Axes, names: Sequence[Name], mark_M: Sequence[tuple[float, float]], lines: Sequence[tuple[Array, Array]]
) -> list[Text]:
    """Write each name as near to its point as no other name and no mark is in the way, best off the lines too.

    The first names have the first choice; a thin line leads back from one that is far. The axes must have their final
    limits and place.
    """
    figure = axes.get_figure()
    assert figure is not None
    unit = figure.dpi / 72
    frame = axes.get_window_extent()
    marks_M2 = _pixels(axes, mark_M)
    soft_P2 = np.concatenate([np.zeros((0, 2)), *(_along(axes, line, _DENSITY * unit) for line in lines)])
    taken_T4 = np.zeros((0, 4))
    texts = []
    for name in names:
        text = axes.text(name.x, name.y, name.text, fontsize=name.size, color=name.colour, zorder=7)
        size = np.array([*text.get_window_extent().size]) / 2
        point = _pixels(axes, [(name.x, name.y)])[0]
        centre_C2, radius_C = _candidates(point, size, unit)
        box_C4 = np.concatenate([centre_C2 - size, centre_C2 + size], axis=1)
        badness_C = radius_C / unit + _ON_A_LINE * _count_inside(box_C4, soft_P2, 0.0)
        # A line that leads back must not cross out another name.
        way_CK2 = np.clip(point, box_C4[:, :2], box_C4[:, 2:])[:, None] * _ON_THE_WAY + point * (1 - _ON_THE_WAY)
        badness_C += _CROSSED * _crossings(way_CK2, taken_T4)
        badness_C += 1e3 * _count_inside(box_C4, marks_M2, _OFF_MARKS * unit)
        badness_C += 1e6 * _count_overlaps(box_C4, taken_T4, _APART * unit)
        inside_C = (box_C4[:, 0] >= frame.x0) & (box_C4[:, 1] >= frame.y0)
        inside_C &= (box_C4[:, 2] <= frame.x1) & (box_C4[:, 3] <= frame.y1)
        best = int(np.argmin(badness_C + 1e5 * ~inside_C))
        box = box_C4[best]
        taken_T4 = np.concatenate([taken_T4, box[None]])
        text.set_position(tuple(axes.transData.inverted().transform((box[:2] + box[2:]) / 2)))
        text.set(ha="center", va="center")
        texts.append(text)
        near = np.clip(point, box[:2], box[2:])
        if np.hypot(*(near - point)) > _LED_FROM * unit:
            ends = axes.transData.inverted().transform([near, point])
            axes.plot(*ends.T, color="0.6", linewidth=0.6, zorder=2, clip_on=False)
            soft_P2 = np.concatenate([soft_P2, _along(axes, (ends[:, 0], ends[:, 1]), _DENSITY * unit)])
    return texts


def _candidates(point: Array, size: Array, unit: float) -> tuple[Array, Array]:
    """Centres of boxes of half this size around a point, `[C, 2]`, and how far from it they are, `[C]`, in pixels."""
    angle = 2 * np.pi * np.arange(_N_ANGLES) / _N_ANGLES + np.pi / 4
    direction_N2 = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    radius_R = _RADII * unit
    centre_RN2 = point + direction_N2 * (radius_R[:, None, None] + size)
    return centre_RN2.reshape(-1, 2), np.repeat(radius_R, _N_ANGLES)


def _count_inside(box_C4: Array, point_P2: Array, pad: float) -> Array:
    low_C12, high_C12 = box_C4[:, None, :2] - pad, box_C4[:, None, 2:] + pad
    # One axis after the other: numpy takes ten times as long to reduce over an axis of two.
    x_P, y_P = np.ascontiguousarray(point_P2.T)
    inside_CP = (x_P >= low_C12[..., 0]) & (x_P <= high_C12[..., 0])
    inside_CP &= (y_P >= low_C12[..., 1]) & (y_P <= high_C12[..., 1])
    return np.asarray(inside_CP.sum(axis=1), dtype=np.float64)


def _count_overlaps(box_C4: Array, other_T4: Array, pad: float) -> Array:
    apart_CT = (box_C4[:, None, :2] - pad > other_T4[:, 2:]) | (box_C4[:, None, 2:] + pad < other_T4[:, :2])
    return np.asarray((~np.any(apart_CT, axis=2)).sum(axis=1), dtype=np.float64)


def _crossings(way_CK2: Array, other_T4: Array) -> Array:
    on_CKT = np.all((way_CK2[:, :, None] >= other_T4[:, :2]) & (way_CK2[:, :, None] <= other_T4[:, 2:]), axis=3)
    return np.asarray(np.any(on_CKT, axis=1).sum(axis=1), dtype=np.float64)


def _pixels(axes: Axes, points: Sequence[tuple[float, float]]) -> Array:
    return np.asarray(axes.transData.transform(np.array(points, dtype=np.float64).reshape(-1, 2)))


def _along(axes: Axes, line: tuple[Array, Array], step: float) -> Array:
    """Points along a line, in pixels, as far as the axes show it."""
    frame = axes.get_window_extent()
    corner_N2 = _pixels(axes, list(zip(*line, strict=True)))
    parts = [np.zeros((0, 2))]
    for start, end in pairwise(corner_N2):
        # Of a line that goes far beyond the axes only a part is looked at, as densely.
        share = _inside_share(start, end, np.array(frame.min), np.array(frame.max))
        if share is not None:
            a, b = start + share[0] * (end - start), start + share[1] * (end - start)
            parts.append(np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / step))))
    return np.concatenate(parts)


def _inside_share(start: Array, end: Array, low: Array, high: Array) -> tuple[float, float] | None:
    """From where to where, of 0 to 1, a segment is inside a box (Liang and Barsky); None where it is not."""
    first, last = 0.0, 1.0
    for a, b, least, most in zip(start, end, low, high, strict=True):
        if a == b:
            if not least <= a <= most:
                return None
            continue
        into, out = sorted(((least - a) / (b - a), (most - a) / (b - a)))
        first, last = max(first, into), min(last, out)
    return (first, last) if first < last else None
