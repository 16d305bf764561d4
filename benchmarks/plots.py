"""How every plot looks, and how it is saved: small SVG that does not change when the figures do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]

mpl.use("svg")
from matplotlib import pyplot as plt

mpl.rcParams.update(
    {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
)


def figure(columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes."""
    size = (6.4 if columns == 1 else 4.2 * columns, 3.6)
    chart, axes = plt.subplots(1, columns, figsize=size, layout="constrained")
    return chart, axes


def save(chart: Any, path: Path) -> None:
    """Write it, without the date, and close it."""
    chart.savefig(path, format="svg", metadata={"Date": None})
    plt.close(chart)
