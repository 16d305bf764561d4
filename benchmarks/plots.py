"""The plots, each made from a topic's result: small SVG that does not change when the figures do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]

from benchmarks.results import Result

mpl.use("svg")
from matplotlib import pyplot as plt

mpl.rcParams.update(
    {"svg.hashsalt": "benchmarks", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
)


def draw(file: str, result: Result, folder: Path) -> None:
    """Draw one of PLOTS, without the date."""
    make, columns = PLOTS[file]
    size = (6.4 if columns == 1 else 4.2 * columns, 3.6)
    chart, axes = plt.subplots(1, columns, figsize=size, layout="constrained")
    make(result, axes)
    chart.savefig(folder / file, format="svg", metadata={"Date": None})
    plt.close(chart)


def _open_loop(result: Result, axes: Any) -> None:
    """p50 and p99 against the rate, both contenders."""
    for name, label, colour in (("ours", "this service", "C0"), ("recipe", "recipe", "C3")):
        rows = [row for row in result.tables["openloop"] if row.startswith(name)]
        rates = [result.median("openloop", row, "rate") for row in rows]
        for key, style in (("p50", "--"), ("p99", "-")):
            values = [result.median("openloop", row, key) for row in rows]
            axes.plot(rates, values, style, color=colour, marker="o", markersize=3, label=f"{label}, {key}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("likes a second that arrive")
    axes.set_ylabel("ms until answered")
    axes.legend()


def _growth(result: Result, axes: Any) -> None:
    """Three charts side by side."""

    def points(table: str, key: str) -> tuple[list[int], list[float]]:
        rows = {int(row.rpartition("_")[2]): row for row in result.tables[table]}
        return sorted(rows), [result.median(table, rows[size], key) for size in sorted(rows)]

    for axis, table, label in ((axes[0], "videos", "videos"), (axes[1], "likes", "likes on one video")):
        axis.plot(*points(table, "rate"), marker="o", color="C0")
        axis.set_xlabel(label)
        axis.set_ylabel("requests a second", color="C0")
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])  # room above the line
        late = axis.twinx()
        late.plot(*points(table, "p99"), marker="s", color="C1")
        late.set_ylabel("p99 ms", color="C1")
        late.set_ylim(0, 1.1 * late.get_ylim()[1])
        axis.set_xscale("log")
    axes[2].loglog(*points("flush", "seconds"), marker="o")
    axes[2].set_xlabel("changed, of 1,000,000 videos")
    axes[2].set_ylabel("seconds of the flush")


def _cost(result: Result, axis: Any) -> None:
    """Stacked bars."""
    names = {"recipe": "recipe", "ours": "this service"}
    bottom = [0.0, 0.0]
    for part in ("web", "redis", "database", "flush"):
        values = [result.median("cost", name, part) for name in names]
        axis.barh(list(names.values()), values, left=bottom, label=part)
        bottom = [a + b for a, b in zip(bottom, values, strict=True)]
    axis.set_xlabel("CPU seconds for a million likes")
    axis.legend()


# file -> what draws it, and how many charts it has side by side
PLOTS = {"openloop.svg": (_open_loop, 1), "growth.svg": (_growth, 3), "cost.svg": (_cost, 1)}
