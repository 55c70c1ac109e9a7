"""The figures of a run as a plot: docs/quality.png and docs/quality.svg."""

from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bench.quality.run import CLASS_GIVEN, ORACLE, POOLS, ROUTERS, TEXT_ONLY, ZERO, Figures

_COLOURS = {TEXT_ONLY: "#2a6f97", CLASS_GIVEN: "#61a5c2", ZERO: "#343a40"}
_OTHERS = ("#adb5bd", "#ced4da")
_SIZE_INCHES = (10, 7)
_DOTS_PER_INCH = 150
_MICRO = 1e6
_LEAST_COST = 0.05


def draw(figures: Figures, folder: Path) -> None:
    """Write the plot in both formats; the same figures make the same files."""
    rcParams["svg.hashsalt"] = "clearfloor"
    canvas = Canvas(figsize=_SIZE_INCHES, layout="constrained")
    panels = canvas.subplots(2, 2).flat
    for pool in POOLS:
        _draw_curves(next(panels), pool, figures)
    _draw_calibration(next(panels), figures)
    canvas.savefig(folder / "quality.png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    canvas.savefig(folder / "quality.svg", metadata={"Date": None})


def _draw_curves(axes: Axes, pool: str, figures: Figures) -> None:
    """Draw quality against cost, of the first fold. The oracle is left out: it would flatten all others."""
    others = iter(_OTHERS)
    for router in ROUTERS:
        curve = figures.curves.get((pool, router))
        if curve is None or router == ORACLE:
            continue
        colour = _COLOURS.get(router) or next(others)
        style = "--" if router == ZERO else "-"
        axes.plot(curve.costs * _MICRO, curve.qualities, style, color=colour, label=router, linewidth=1.6)
    # From where the first few hundredths of the cost have brought most of the quality.
    zero = figures.curves[pool, ZERO]
    axes.set_ylim(bottom=np.interp(zero.costs[-1] * _LEAST_COST, zero.costs, zero.qualities))
    axes.set_title(f"{pool}: quality against cost, millionths of a USD a prompt", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_calibration(axes: Axes, figures: Figures) -> None:
    """Draw realized against predicted quality of the prediction by text, a line a pool."""
    axes.plot([0, 1], [0, 1], ":", color="#343a40", linewidth=1)
    for (router, pool), folds in sorted(figures.bins.items()):
        if router == TEXT_ONLY:
            bins = folds[0]
            axes.plot(
                [found.predicted for found in bins],
                [found.realized for found in bins],
                ".-",
                label=pool,
                linewidth=1.2,
            )
    axes.set_title("realized against predicted quality, text only", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
