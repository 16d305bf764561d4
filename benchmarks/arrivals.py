"""Likes that arrive at a constant rate (open loop): what a topic needs to ask for them and to read what came of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contenders import USER_AGENT, Contender, Site, write_lines
from benchmarks.load import k6
from benchmarks.traffic import distinct_pairs, take, tokens
from servers import Servers


@dataclass(frozen=True)
class Arrival:
    """One like: when it was sent (Unix ms), how long it took (ms), the answer's status."""

    at_ms: float
    took_ms: float
    status: int

    @property
    def good(self) -> bool:
        """Whether it was acknowledged."""
        return self.status == 200


class Likes:
    """Likes prepared for one contender: each line another (user, video), used once."""

    def __init__(self, contender: Contender, *, users: int, videos: int, number: int) -> None:
        signed_in = tokens(users)
        pairs = take(distinct_pairs(users, videos, seed=5), number)
        requests = (contender.like(video, signed_in[user - 1]) for user, video in pairs)
        self._lines = [f"{request.method} {request.path} {request.token}" for request in requests]
        self._used = 0

    def again(self) -> None:
        """Begin anew: the contender's data was made anew."""
        self._used = 0

    def arrive(self, servers: Servers, site: Site, *, rate: float, seconds: float) -> tuple[list[Arrival], int]:
        """Send so many a second; the arrivals, and how many k6 could not send because all its users waited."""
        number = int(rate * seconds) + 1
        lines = self._lines[self._used : self._used + number]
        if len(lines) < number:
            raise ValueError(f"{number} likes asked for, {len(lines)} left.")
        self._used += number
        environment = {
            "LIKES": str(write_lines(servers.folder / "likes", lines)),
            "BASE": site.url,
            "AGENT": USER_AGENT,
            "RATE": str(max(1, round(rate))),
            "SECONDS": f"{seconds:g}",
        }
        metrics, console = k6("arrivals.js", servers.folder, environment)
        arrivals = []
        for line in console:
            at, took, status = line.split()
            arrivals.append(Arrival(float(at), float(took), int(status)))
        return arrivals, int(metrics.get("dropped_iterations", {}).get("count", 0))


def percentile(arrivals: Sequence[Arrival], percent: int) -> float:
    """A percentile of the latencies, in ms."""
    return statistics.quantiles((one.took_ms for one in arrivals), n=100)[percent - 1]
