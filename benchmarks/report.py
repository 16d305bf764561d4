"""Turns results into docs/benchmarks.md (between its markers) and docs/img/."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.results import RESULTS, Claim, Column, Result, Table
from servers import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "img"
LABELS = {contender.name: contender.label for contender in contenders.ALL}


def table(result: Result, shown: Table, labels: dict[str, str]) -> str:
    """One table in Markdown: medians over the rounds, and the spread where the column asks for it."""
    rows = list(dict.fromkeys(sample.contender for sample in result.samples if sample.table == shown.name))
    if not rows:
        return ""
    columns = [c for c in shown.columns if any(result.series(shown.name, row, c.key) for row in rows)]
    head = f"| {shown.title} | " + " | ".join(column.label for column in columns) + " |"
    rule = "|---|" + "---:|" * len(columns)
    body = [
        f"| {labels.get(row, row)} | "
        + " | ".join(_cell(column, result.series(shown.name, row, column.key)) for column in columns)
        + " |"
        for row in rows
    ]
    return "\n".join([head, rule, *body])


def _cell(column: Column, values: list[float]) -> str:
    if not values:
        return ""
    text = column.form.format(statistics.median(values))
    if column.spread and len(values) > 1:
        text += f" ({column.form.format(min(values))}–{column.form.format(max(values))})"
    return text


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def claims(found: Iterable[Claim]) -> str:
    """Promises and what was seen."""
    lines = [
        f"| {claim.text} | {'≥' if claim.at_least else '≤'} {_number(claim.goal)} | **{_number(claim.seen)}** "
        f"({_number(claim.low)}–{_number(claim.high)}) | {'yes' if claim.holds else '**no**'} |"
        for claim in found
    ]
    return "\n".join(["| promise | goal | seen | holds |", "|---|---:|---:|---|", *lines]) if lines else ""


def section(result: Result, module: Any) -> str:
    """A topic's tables, claims, notes and plots."""
    labels = {**LABELS, **getattr(module, "LABELS", {})}
    parts = [text for shown in module.TABLES if (text := table(result, shown, labels))]
    parts.append(claims(result.claims))
    parts += [f"![{caption}](img/{name})" for name, caption in getattr(module, "PLOTS", {}).items()]
    if result.notes:
        parts.append("\n".join(f"- {note}" for note in result.notes))
    if result.noise:
        loops = [one.loop_ms for one in result.noise]
        spread = (max(loops) - min(loops)) / statistics.median(loops)
        others = statistics.median(one.others for one in result.noise)
        parts.append(
            f"*{len(result.noise)} rounds, {result.seconds:.0f} s in all. Noise: a fixed loop took {min(loops):.0f} to "
            f"{max(loops):.0f} ms (spread {spread:.0%}); others used {others:.0%} of the CPU before a round.*"
        )
    return "\n\n".join(part for part in parts if part)


def machine(result: Result) -> str:
    """The machine and the versions."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in result.facts.items())])


def summary(found: list[Result]) -> str:
    """Every promise in one table."""
    return claims(claim for result in found for claim in result.claims)


def write(topics: Iterable[str], folder: Path = RESULTS, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Renew the page and the plots from what is in the results folder."""
    found = {topic: Result.load(folder / f"{topic}.json") for topic in topics if (folder / f"{topic}.json").exists()}
    text = page.read_text()
    images.mkdir(parents=True, exist_ok=True)
    for topic, result in found.items():
        module = import_module(f"benchmarks.{topic}")
        if hasattr(module, "plot"):
            module.plot(result, images)
        text = _between(text, topic, section(result, module))
    if found:
        newest = max((folder / f"{topic}.json" for topic in found), key=lambda path: path.stat().st_mtime)
        text = _between(text, "machine", machine(Result.load(newest)))
        text = _between(text, "summary", summary(list(found.values())))
    page.write_text(text)


def _between(text: str, name: str, content: str) -> str:
    pattern = re.compile(rf"(<!-- bench: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{PAGE.name} has no place for {name!r}.")
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n\n{match[2]}", text)
