"""The one type of every topic's result: samples by contender and round, claims judged, notes, and how noisy it was."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import IDLE_SECONDS, Noise, noise
from servers import ROOT, Servers

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Sample:
    """What one contender did in one round of one table."""

    table: str
    contender: str
    round: int
    values: dict[str, float]


@dataclass(frozen=True)
class Claim:
    """A ratio that is promised, and what was seen: the median over the rounds, with the lowest and the highest."""

    text: str
    seen: float
    low: float
    high: float
    goal: float
    at_least: bool = True
    exact: bool = False  # it speaks of counts, not of times: it holds on any machine

    @property
    def holds(self) -> bool:
        """Whether the median keeps the promise."""
        return self.seen >= self.goal if self.at_least else self.seen <= self.goal


@dataclass
class Result:
    """What a topic measured."""

    topic: str
    title: str
    samples: list[Sample] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    noise: list[Noise] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    quick: bool = False

    def add(self, table: str, contender: str, round_number: int, **values: float) -> None:
        """Note one sample."""
        self.samples.append(Sample(table, contender, round_number, values))

    def series(self, table: str, contender: str, key: str) -> list[float]:
        """One figure of one contender, round by round."""
        return [
            sample.values[key]
            for sample in sorted(self.samples, key=lambda one: one.round)
            if sample.table == table and sample.contender == contender and key in sample.values
        ]

    def median(self, table: str, contender: str, key: str) -> float:
        """Its median."""
        return statistics.median(self.series(table, contender, key))

    def claim(
        self,
        text: str,
        ratios: Sequence[float],
        goal: float,
        *,
        at_least: bool = True,
        exact: bool = False,
    ) -> None:
        """Judge a promise by the ratios of the rounds."""
        seen = statistics.median(ratios)
        self.claims.append(Claim(text, seen, min(ratios), max(ratios), goal, at_least, exact))

    def ratios(self, table: str, over: str, under: str, key: str = "rate") -> list[float]:
        """One contender's figure over another's, of the same round: what drifts for both falls out."""
        pairs = zip(self.series(table, over, key), self.series(table, under, key), strict=True)
        return [a / b if b else float("inf") for a, b in pairs]

    def save(self, folder: Path = RESULTS) -> Path:
        """Write it as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.topic}.json"
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read it back."""
        told: dict[str, Any] = json.loads(path.read_text())
        told["samples"] = [Sample(**one) for one in told["samples"]]
        told["claims"] = [Claim(**one) for one in told["claims"]]
        told["noise"] = [Noise(**one) for one in told["noise"]]
        return cls(**told)


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

    def pick(self, full: float, quick: float) -> float:
        """A size: the full one, or the one that only tries the harness out."""
        return quick if self.quick else full

    def size(self, full: int, quick: int) -> int:
        """The same for whole numbers."""
        return quick if self.quick else full

    def alternate(
        self,
        result: Result,
        contenders: Sequence[Any],
        measure: Callable[[Any, int], None],
        *,
        at_most: int | None = None,
    ) -> None:
        """Rounds in which every contender takes its turn, in an order that is reversed each time.

        `at_most`: as many rounds, where no promise is judged.
        """
        for number in range(1, min(self.rounds, at_most or self.rounds) + 1):
            result.noise.append(noise(self.pick(IDLE_SECONDS, 0.05)))
            for contender in contenders if number % 2 else reversed(contenders):
                measure(contender, number)
