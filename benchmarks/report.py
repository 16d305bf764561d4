"""Turns results into docs/benchmarks.md (between its markers) and docs/img/.

`<!-- bench: TOPIC TABLE ... -->` stands before some tables of a topic, with the promises, plots and notes about them;
how noisy the machine was follows a topic's last table. `machine` and `summary` stand for what their names say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from benchmarks import contenders
from benchmarks.results import RESULTS, Claim, Column, Figure, Result, Table
from servers import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "img"
LABELS = {contender.name: contender.label for contender in contenders.ALL}
MARKER = re.compile(r"<!-- bench: (\w+)((?: \w+)*) -->\n.*?<!-- end -->", re.DOTALL)


def table(result: Result, shown: Table, labels: dict[str, str]) -> str:
    """One table in Markdown: medians over the rounds, and the spread where the column asks for it."""
    rows = result.tables.get(shown.name, {})
    columns = [column for column in shown.columns if any(column.key in row for row in rows.values())]
    head = [f"| {shown.title} | " + " | ".join(column.label for column in columns) + " |"]
    head.append("|---|" + "---:|" * len(columns))
    body = [
        f"| {labels.get(name, name)} | " + " | ".join(_cell(column, row.get(column.key)) for column in columns) + " |"
        for name, row in rows.items()
    ]
    return "\n".join([*head, *body]) if rows else ""


def _cell(column: Column, figure: Figure | None) -> str:
    if figure is None:
        return ""
    text = column.form.format(figure.median)
    if column.spread and figure.rounds > 1:
        text += f" ({column.form.format(figure.low)}–{column.form.format(figure.high)})"
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


def section(result: Result, names: Iterable[str]) -> str:
    """These tables of a topic, with the claims, plots and notes about them."""
    module = import_module(f"benchmarks.{result.topic}")
    labels = {**LABELS, **getattr(module, "LABELS", {})}
    names = list(names)
    parts = [table(result, shown, labels) for shown in module.TABLES if shown.name in names]
    parts.append(claims(claim for claim in result.claims if claim.table in names))
    parts += [f"![{caption}](img/{file})" for of, file, caption in getattr(module, "PLOTS", ()) if of in names]
    parts.append("\n".join(f"- {note}" for of, note in result.notes if of in names))
    if names[-1] == module.TABLES[-1].name:
        parts.append(_noise(result))
    return "\n\n".join(part for part in parts if part)


def _noise(result: Result) -> str:
    if not result.loop_ms or not result.other_cpu:
        return ""
    median, low, high, rounds = result.loop_ms
    return (
        f"*{rounds} rounds, {result.seconds:.0f} s in all. Noise: a fixed loop took {low:.0f} to {high:.0f} ms (spread "
        f"{(high - low) / median:.0%}); other processes used {result.other_cpu.median:.0%} of the CPU before a round.*"
    )


def machine(result: Result) -> str:
    """The machine and the versions."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in result.facts.items())])


def write(topics: Iterable[str], folder: Path = RESULTS, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Renew the page and the plots from what is in the results folder."""
    found = {topic: Result.load(path) for topic in topics if (path := folder / f"{topic}.json").exists()}
    images.mkdir(parents=True, exist_ok=True)
    for topic, result in found.items():
        for _, file, _ in getattr(import_module(f"benchmarks.{topic}"), "PLOTS", ()):
            from benchmarks.plots import draw

            draw(file, result, images)

    def renew(match: re.Match[str]) -> str:
        topic, names = match[1], match[2].split()
        if topic == "machine" and found:
            text = machine(next(iter(found.values())))
        elif topic == "summary" and found:
            text = claims(claim for result in found.values() for claim in result.claims)
        elif topic in found:
            text = section(found[topic], names)
        else:
            return match[0]
        return f"<!-- bench: {' '.join([topic, *names])} -->\n\n{text}\n\n<!-- end -->"

    page.write_text(MARKER.sub(renew, page.read_text()))
