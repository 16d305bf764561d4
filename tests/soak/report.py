"""What a soak found: sums of its requests, a summary to read, a plot."""

import json
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

from tests.soak.crowd import KINDS
from tests.soak.load import RECORD

mpl.use("svg")
from matplotlib import pyplot as plt

PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
Window = tuple[float, float]


def read_requests(path: Path, begun: float) -> Iterator[tuple[float, float, str, int]]:
    """When each request was due (seconds after `begun`), how long it took, its kind and its status."""
    with path.open("rb") as file:
        while data := file.read(RECORD.size * 4096):
            for due, seconds, kind, _, status, *_ in RECORD.iter_unpack(data):
                yield due - begun, seconds, KINDS[kind], status


def latencies(path: Path, begun: float, windows: Sequence[Window]) -> dict[str, Any]:
    """Percentiles and the longest, in seconds, outside of the windows of faults and inside; and the five longest.

    A request is inside if it was on its way in a window.
    """
    took: dict[str, array[float]] = defaultdict(lambda: array("f"))
    longest: list[tuple[float, float, str, int]] = []
    for due, seconds, kind, status in read_requests(path, begun):
        if due < 0:
            continue  # while the capacity was measured
        inside = any(due <= last and due + seconds >= first for first, last in windows)
        where = "inside" if inside else "outside"
        took[where].append(seconds)
        took[f"{where} {kind}"].append(seconds)
        longest.append((seconds, due, kind, status))
        if len(longest) > 1000:
            longest = sorted(longest, reverse=True)[:5]
    told: dict[str, Any] = {where: _summary(values) for where, values in sorted(took.items())}
    told["longest"] = [
        {"seconds": seconds, "at": due, "kind": kind, "status": status}
        for seconds, due, kind, status in sorted(longest, reverse=True)[:5]
    ]
    return told


def _summary(values: "array[float]") -> dict[str, float]:
    ordered = sorted(values)
    return {
        "requests": len(ordered), "longest": ordered[-1],
        **{name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in PERCENTILES.items()},
    }  # fmt: skip


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write soak.json, summary.md and soak.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(folder / "soak.svg", result)
    (folder / "summary.md").write_text(summary(result))


def summary(result: dict[str, Any]) -> str:
    """The result in words."""
    off, share = result["off"], result["rate"] / result["capacity"]
    windows = [(one["begun"], one["ended"]) for one in result["faults"]]
    outside = [at for at in result["stale"] if not any(first <= at <= last for first, last in windows)]
    lines = [
        f"# Soak of {result['minutes']:g} minutes on {result['pair']}, seed {result['seed']}",
        "",
        f"**{'Everything that was acknowledged is counted.' if not off else f'{len(off)} things are off:'}**",
        *(f"- {one}" for one in off[:50]),
        "",
        f"- Capacity {result['capacity']:,.0f} requests/s, asked {result['rate']:,.0f}, which is {share:.0%}.",
        f"- {len(result['faults'])} faults, {result['requests']:,} requests; {result['not_sent']:,} more not sent.",
        *(f"- {name.replace('_', ' ')}: {value:,}" for name, value in result["sums"].items()),
        f"- answers that show the state before a wish: {len(result['stale']):,}, outside of windows {len(outside):,}",
        "",
        "| requests outside of and inside windows of faults | number | p50 ms | p99 ms | p99.9 ms | longest ms |",
        "|---|---|---|---|---|---|",
    ]
    for where, one in result["latencies"].items():
        if where != "longest":
            figures = " | ".join(f"{one[key] * 1000:,.1f}" for key in (*PERCENTILES, "longest"))
            lines.append(f"| {where} | {one['requests']:,} | {figures} |")
    lines += ["", "| answer | number |", "|---|---|"]
    lines += [f"| {status} | {number:,} |" for status, number in sorted(result["statuses"].items())]
    lines += ["", "| fault | at s | longest request ms | answers other than 200 |", "|---|---|---|---|"]
    lines += [
        f"| {one['fault']} | {one['begun']:.0f}–{one['ended']:.0f} | {one['longest'] * 1000:,.0f} | {one['failed']:,} |"
        for one in result["faults"]
    ]
    lines += ["", "| key in Redis | keys | MB at the end of the load | bytes each | fields |", "|---|---|---|---|---|"]
    lines += (
        [
            f"| {kind} | {one['keys']:,} | {one['bytes'] / 1e6:,.2f} | {one['bytes'] / one['keys']:,.0f} "
            f"| {one.get('fields', '')} |"
            for kind, one in result["memory"][-1]["kinds"].items()
        ]
        if result["memory"]
        else []
    )
    return "\n".join([*lines, "", "![requests, latencies and memory](soak.svg)", ""])


def draw(path: Path, result: dict[str, Any]) -> None:
    """Draw requests, latencies and Redis' memory over time, faults shaded."""
    chart, (rates, waits, memory) = plt.subplots(3, 1, figsize=(11, 8), sharex=True, layout="constrained")
    seconds = result["seconds"]
    at = [one["at"] for one in seconds]
    good = [sum(n for status, n in one["statuses"].items() if status.startswith("200")) for one in seconds]
    rates.plot(at, good, label="answered 200")
    rates.plot(at, [one["answered"] - n for one, n in zip(seconds, good, strict=True)], label="other answers, or none")
    rates.plot(at, [one["not_sent"] for one in seconds], label="not sent", color="grey", linewidth=0.8)
    rates.set_ylabel("requests a second")
    for name in ("p50", "p99", "longest"):
        waits.plot(at, [(one[name] or 0) * 1000 for one in seconds], label=name)
    waits.set_yscale("log")
    waits.set_ylabel("ms until answered")
    kinds = sorted({kind for one in result["memory"] for kind in one["kinds"]})
    for kind in kinds:
        sizes = [one["kinds"].get(kind, {"bytes": 0})["bytes"] / 1e6 for one in result["memory"]]
        memory.plot([one["at"] for one in result["memory"]], sizes, label=kind)
    memory.set_yscale("symlog", linthresh=0.01)
    memory.set_ylabel("Redis, MB by kind of key")
    memory.set_xlabel("seconds")
    colours = {"kill": "C3", "stop": "C1", "cut": "C0"}
    for axis in (rates, waits, memory):
        for fault in result["faults"]:
            axis.axvspan(fault["begun"], fault["ended"], color=colours[fault["kind"]], alpha=0.15, linewidth=0)
        axis.legend(fontsize=7, ncols=4)
        axis.grid(alpha=0.3)
    chart.savefig(path, format="svg", metadata={"Date": None})
    plt.close(chart)
