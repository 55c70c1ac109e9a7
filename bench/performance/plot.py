"""The figures of a run as a plot: docs/performance.png and docs/performance.svg."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.performance.figures import Figure, Figures
from bench.performance.gateways import CLEARFLOOR
from bench.performance.peers import FORWARDER, LITELLM, PORTKEY
from bench.performance.scenarios import LATENCY, STREAMS, THROUGHPUT

_GATEWAYS = (CLEARFLOOR, LITELLM, PORTKEY, FORWARDER)
_OURS, _THEIRS = "#2a6f97", "#adb5bd"
_SIZE_INCHES = (10, 6.5)
_DOTS_PER_INCH = 150


@dataclass(frozen=True)
class _Panel:
    title: str
    scenario: str
    metric: str
    decimals: int


_PANELS = (
    _Panel("requests a second, 64 connections (more is better)", THROUGHPUT, "rate", 0),
    _Panel("median added to a call, ms (less is better)", LATENCY, "p50_added", 2),
    _Panel("gateway's CPU, s per 1,000 requests (less is better)", THROUGHPUT, "gateway_cpu", 2),
    _Panel("first byte of a stream later by, ms (less is better)", STREAMS, "first_added", 2),
)


def draw(figures: Figures, folder: Path) -> None:
    """Write the plot in both formats; the same figures make the same files."""
    rcParams["svg.hashsalt"] = "clearfloor"
    canvas = Canvas(figsize=_SIZE_INCHES, layout="constrained")
    for axes, panel in zip(canvas.subplots(2, 2).flat, _PANELS, strict=True):
        _draw_panel(axes, panel, figures)
    canvas.savefig(folder / "performance.png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    canvas.savefig(folder / "performance.svg", metadata={"Date": None})


def _draw_panel(axes: Axes, panel: _Panel, figures: Figures) -> None:
    """Draw a bar a gateway, with the spread of its rounds."""
    found = {name: figures.get(panel.scenario, name, panel.metric) for name in reversed(_GATEWAYS)}
    measured = {name: figure for name, figure in found.items() if figure is not None}
    values = list(measured.values())
    bars = axes.barh(
        list(measured),
        [figure.median for figure in values],
        xerr=_spreads(values),
        color=[_OURS if name == CLEARFLOOR else _THEIRS for name in measured],
        error_kw={"ecolor": "#343a40", "capsize": 3},
    )
    axes.bar_label(bars, [f"{figure.median:,.{panel.decimals}f}" for figure in values], padding=6)
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.18)


def _spreads(figures: Sequence[Figure]) -> list[list[float]]:
    """Return how far the least and the most are from each median."""
    return [
        [figure.median - figure.least for figure in figures],
        [figure.most - figure.median for figure in figures],
    ]
