"""Charts in one calm style: no boxes, few lines, colours that colour-blind readers can tell apart.

Figures are matplotlib `Figure` objects made without pyplot, so nothing is global and nothing needs closing.

    figure, axes = chart("Success while practising", "environment steps", "success")
    learning_curve(axes, steps, success_per_seed, "affordances")
    name_lines(axes)
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import same_color, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.spines import Spine
from matplotlib.text import Text
from numpy.typing import ArrayLike

from imagoal import stats

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")  # Okabe and Ito, grey for their black
BEFORE = "#b9b4a8"  # of bars that others are to be compared with
INK, MUTED, FAINT = "#2b2a27", "#77736b", "#dedad2"
DARK = {
    INK: "#e9e5dc", MUTED: "#a39e93", FAINT: "#3a3833", "#000000": "#e9e5dc",
    "#0072b2": "#4da6e0", "#d55e00": "#ec7f3b", "#009e73": "#35b98f", "#cc79a7": "#d992b8", "#e69f00": "#e9b03c", "#b9b4a8": "#6b675e",
}  # what the colours become on a dark page  # fmt: skip
STYLE = {
    "font.family": "sans-serif", "font.size": 11, "axes.titlesize": 12, "axes.titlelocation": "left",
    "axes.titlepad": 12, "text.color": INK, "axes.labelcolor": MUTED, "axes.titlecolor": INK, "axes.edgecolor": FAINT,
    "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": MUTED, "ytick.labelcolor": MUTED, "grid.color": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True, "axes.grid.axis": "y",
    "grid.linewidth": 0.8, "ytick.major.size": 0, "xtick.major.size": 3, "axes.axisbelow": True, "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round", "legend.frameon": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
}  # fmt: skip


def chart(
    title: str = "", xlabel: str = "", ylabel: str = "", width: float = 6.6, height: float = 3.3
) -> tuple[Figure, Axes]:
    """One empty chart, size in inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def metric_chart(
    metrics: Mapping[str, Sequence[float | None]], lines: Mapping[str, str], title: str, xlabel: str, ylabel: str = "", height: float = 2.4
) -> Figure | None:
    """A run's metrics against its steps, one line for each column named in `lines` (name -> label, "" for none), where it has values.

    None if none of them has. `metrics` is what `read_metrics` returns.
    """
    figure, axes = chart(title, xlabel, ylabel, height=height)
    for name, label in lines.items():
        points = [(step, value) for step, value in zip(metrics["step"], metrics.get(name, []), strict=False) if value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    if axes.lines and any(lines.values()):
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure if axes.lines else None


def learning_curve(
    axes: Axes, xs: ArrayLike, ys: ArrayLike, label: str, colour: str | None = None, interval: str = "t", seed: int = 0
) -> None:
    """The mean of one curve per seed, with its 95% band. xs (T,), ys (S, T) or (T,) for a single seed.

    `interval` is "t" (Student), "bootstrap", or "none", which draws each seed thinly instead. Raises ValueError for shapes that do not match.
    """
    x, y = np.asarray(xs, dtype=np.float64), np.atleast_2d(np.asarray(ys, dtype=np.float64))
    if y.shape[1:] != x.shape or interval not in ("t", "bootstrap", "none"):
        raise ValueError(f"need xs (T,), ys (S, T), a known interval; got {x.shape}, {y.shape}, {interval!r}")
    (line,) = axes.plot(x, y.mean(0), label=label, color=colour)
    if interval == "none":
        axes.plot(x, y.T, color=line.get_color(), alpha=0.35, linewidth=0.9)
    elif len(y) > 1:
        low, high = stats.t_interval(y) if interval == "t" else stats.bootstrap_ci(y, seed)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.16, linewidth=0)


def bars_with_intervals(
    axes: Axes,
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    points: Sequence[Sequence[float]] | None = None,
    colours: Sequence[str] | None = None,
    digits: int = 2,
) -> None:
    """Horizontal bars, first label on top: value, 95% interval as a whisker, and (if given) every seed as a dot.

    Raises ValueError when the lengths differ.
    """
    rows = np.arange(len(labels))[::-1]
    fill = [PALETTE[i % len(PALETTE)] for i in range(len(labels))] if colours is None else colours
    ends = []
    for i, (row, value, (low, high), colour) in enumerate(zip(rows, values, intervals, fill, strict=True)):
        axes.barh(row, value, height=0.56, color=colour, alpha=0.85, linewidth=0)
        axes.plot([low, high], [row, row], color=INK, linewidth=1.4, solid_capstyle="butt")
        dots = [] if points is None else list(points[i])
        axes.plot(dots, [row] * len(dots), "o", color=INK, markersize=3.5, markerfacecolor="none", markeredgewidth=1.0)
        ends.append(max([value, high, *dots]))
    for row, value, end in zip(rows, values, ends, strict=True):
        axes.annotate(
            f"{value:.{digits}f}",
            (end, row),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=10,
        )
    axes.set_yticks(rows, labels)
    axes.set_ylim(-0.7, len(labels) - 0.3)  # many bars would else leave much empty
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(min(0.0, *(low for low, _ in intervals)), max(ends) * 1.12 if max(ends) > 0 else None)


def name_lines(axes: Axes, gap: float = 13.0) -> None:
    """Write each labelled line's name at its right end, in its colour, at least `gap` points apart: no legend needed."""
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    if not lines:
        return
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    points_high = axes.figure.get_figheight() * 72 * 0.72  # roughly the height of the plotting area
    heights = [(float(line.get_ydata()[-1]) - bottom) / (top - bottom) * points_high for line in lines]
    placed = spread(heights, gap)
    for line, height, place in zip(lines, heights, placed, strict=True):
        axes.annotate(
            str(line.get_label()), (float(line.get_xdata()[-1]), float(line.get_ydata()[-1])), xytext=(8, place - height),
            textcoords="offset points", va="center", color=line.get_color(), annotation_clip=False,
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart until neighbours are at least `gap` apart, keeping their order and the centre of every cluster."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    clusters: list[tuple[float, list[int]]] = []  # centre, members from low to high
    for i in order:
        centre, members = float(heights[i]), [i]
        while clusters and centre - clusters[-1][0] < gap * (len(members) + len(clusters[-1][1])) / 2:
            before, earlier = clusters.pop()
            centre = (before * len(earlier) + centre * len(members)) / (len(earlier) + len(members))
            members = earlier + members
        clusters.append((centre, members))
    placed = [0.0] * len(heights)
    for centre, members in clusters:
        for rank, i in enumerate(members):
            placed[i] = centre + gap * (rank - (len(members) - 1) / 2)
    return placed


def figure_png(figure: Figure, dark: bool = False, dpi: int = 160) -> bytes:
    """A figure as PNG bytes on a transparent ground; `dark` swaps the style's inks for light ones (and back afterwards)."""
    buffer = io.BytesIO()
    swapped = _recolour(figure, DARK) if dark else []
    figure.savefig(buffer, format="png", dpi=dpi, transparent=True)
    for setter, colour in swapped:
        setter(colour)
    return buffer.getvalue()


def _recolour(figure: Figure, inks: dict[str, str]) -> list[tuple[Callable[[Any], None], Any]]:
    """Swap the style's colours wherever they occur; returns (setter, old colour) pairs that undo it."""
    undo: list[tuple[Callable[[Any], None], Any]] = []

    def swap(colour: Any, setter: Callable[[Any], None]) -> None:
        opaque = isinstance(colour, str) or (len(colour) in (3, 4) and colour[-1] != 0)
        if colour is not None and opaque and not same_color(colour, "none") and to_hex(colour) in inks:
            undo.append((setter, colour))
            setter(inks[to_hex(colour)])

    for artist in figure.findobj():
        if isinstance(artist, Text):
            swap(artist.get_color(), artist.set_color)
        elif isinstance(artist, Line2D):
            swap(artist.get_color(), artist.set_color)
            swap(artist.get_markeredgecolor(), artist.set_markeredgecolor)
        elif isinstance(artist, Spine):
            swap(artist.get_edgecolor(), artist.set_edgecolor)
        elif isinstance(artist, Patch):
            swap(artist.get_facecolor(), artist.set_facecolor)
        elif isinstance(artist, Collection) and len(artist.get_facecolor()) == 1:
            swap(tuple(artist.get_facecolor()[0]), artist.set_facecolor)
    return undo
