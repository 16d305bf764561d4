"""The one type of every topic's result: a figure's median and spread, promises judged, notes, and how noisy it was."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import IDLE_SECONDS, noise
from servers import ROOT, Servers

RESULTS = ROOT / "benchmarks" / "results"


class Figure(NamedTuple):
    """A figure over the rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Its nine leading digits are kept."""
        median, low, high = (float(f"{v:.9g}") for v in (statistics.median(values), min(values), max(values)))
        return cls(median, low, high, len(values))


@dataclass(frozen=True)
class Claim:
    """A promise about a table, and what was seen: the median of the rounds' ratios, the lowest and the highest."""

    table: str
    text: str
    seen: float
    low: float
    high: float
    goal: float
    at_least: bool = True
    exact: bool = False  # speaks of counts, not of times: holds on any machine

    @property
    def holds(self) -> bool:
        """Whether the median keeps the promise."""
        return self.seen >= self.goal if self.at_least else self.seen <= self.goal


Rows = dict[str, dict[str, Any]]  # contender -> key -> Figure, or the raw values of each round


@dataclass
class Result:
    """What a topic measured. Raw values live as long as the run; what is saved are figures."""

    topic: str
    tables: dict[str, Rows] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)  # the table that a note is about, and its text
    loop_ms: Figure | None = None  # a fixed loop, timed before each round
    other_cpu: Figure | None = None  # the share of the CPU that was not ours before each round
    facts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    _raw: dict[tuple[str, str, str], list[float]] = field(default_factory=dict, repr=False, compare=False)
    _noise: list[tuple[float, float]] = field(default_factory=list, repr=False, compare=False)

    def add(self, table: str, contender: str, **values: float) -> None:
        """Note one round's values of one contender."""
        row = self.tables.setdefault(table, {}).setdefault(contender, {})
        for key, value in values.items():
            raw = self._raw.setdefault((table, contender, key), [])
            raw.append(value)
            row[key] = Figure.of(raw)

    def add_noise(self, loop_ms: float, other_cpu: float) -> None:
        """Note how the machine was before a round."""
        self._noise.append((loop_ms, other_cpu))
        self.loop_ms, self.other_cpu = (Figure.of(values) for values in zip(*self._noise, strict=True))

    def series(self, table: str, contender: str, key: str) -> list[float]:
        """One figure of one contender, round by round, as long as the run lasts."""
        return self._raw[table, contender, key]

    def figure(self, table: str, contender: str, key: str) -> Figure | None:
        """A figure, where there is one."""
        found: Figure | None = self.tables.get(table, {}).get(contender, {}).get(key)
        return found

    def median(self, table: str, contender: str, key: str) -> float:
        """The median of a figure that must be there."""
        return float(self.tables[table][contender][key].median)

    def ratios(self, table: str, over: str, under: str, key: str = "rate") -> list[float]:
        """One contender's figure over another's, of the same round: drift that both share cancels out."""
        pairs = zip(self.series(table, over, key), self.series(table, under, key), strict=True)
        return [a / b if b else float("inf") if a else 1.0 for a, b in pairs]

    def claim(
        self, table: str, text: str, ratios: Sequence[float], goal: float, *, at_least: bool = True, exact: bool = False
    ) -> None:
        """Judge a promise by the ratios of the rounds."""
        median, low, high, _ = Figure.of(ratios)
        self.claims.append(Claim(table, text, median, low, high, goal, at_least, exact))

    def save(self, folder: Path = RESULTS) -> Path:
        """Write it as JSON, a row of a table on each line."""
        levels = {"tables": 2, "claims": 1, "notes": 1}
        lines = [
            f' "{name}": {_lines(value, levels.get(name, 0), "  ")}'
            for name, value in asdict(self).items()
            if not name.startswith("_")
        ]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.topic}.json"
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read it back."""
        told: dict[str, Any] = json.loads(path.read_text())
        for rows in told["tables"].values():
            for name, row in rows.items():
                rows[name] = {key: Figure(*values) for key, values in row.items()}
        told["claims"] = [Claim(**one) for one in told["claims"]]
        told["notes"] = [(table, text) for table, text in told["notes"]]
        told |= {name: told[name] and Figure(*told[name]) for name in ("loop_ms", "other_cpu")}
        return cls(**told)


def _lines(value: Any, levels: int, indent: str) -> str:
    """JSON with so many levels spread over lines."""
    if not levels or not value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        parts = [f'"{name}": {_lines(part, levels - 1, indent + " ")}' for name, part in value.items()]
    else:
        parts = [_lines(part, levels - 1, indent + " ") for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{indent}" + f",\n{indent}".join(parts) + f"\n{indent[1:]}{closing}"


@dataclass(frozen=True)
class Column:
    """How a table shows one figure."""

    key: str
    label: str
    form: str = "{:,.0f}"
    spread: bool = False  # show the lowest and the highest beside the median


@dataclass(frozen=True)
class Table:
    """A table of a topic: rows are contenders."""

    name: str
    title: str
    columns: Sequence[Column]


@dataclass
class Run:
    """What every topic is given."""

    servers: Servers
    quick: bool
    rounds: int
    say: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        """A size: the full one, or the one that only tries the harness out."""
        return quick if self.quick else full

    def alternate(
        self, result: Result, contenders: Sequence[Any], measure: Callable[[Any, int], None], *, at_most: int = 99
    ) -> None:
        """Rounds in which every contender takes its turn, in an order that is reversed each time.

        `at_most`: fewer rounds, where no promise is judged.
        """
        for number in range(1, min(self.rounds, at_most) + 1):
            result.add_noise(*noise(0.05 if self.quick else IDLE_SECONDS))
            for contender in contenders if number % 2 else reversed(contenders):
                measure(contender, number)
