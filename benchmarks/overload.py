"""Overload: likes arrive at twice the capacity (open loop). This service's web server beside granian's WSGI alone."""

from __future__ import annotations

import statistics
import time
import urllib.error
import urllib.request

from benchmarks.contender import Site
from benchmarks.contenders import OURS, prepare
from benchmarks.latency import Likes
from benchmarks.load import warm
from benchmarks.results import Column, Result, Run, Table

SECONDS = 10
SHARE = 2.0
FIRST_GUESS = 2_000.0
QUICK_SECONDS = 0.1  # a read that takes no longer is one of a server that has recovered
QUICK_READS = 10
PATIENCE_SECONDS = 60.0
SERVERS = ("serve", "granian")
LABELS = {"serve": "this service", "granian": "the same application under granian's own WSGI"}

TABLES = (
    Table(
        "overload",
        "likes at twice the capacity",
        (
            Column("rate", "asked likes/s"),
            Column("answered", "200s a second", spread=True),
            Column("p99", "p99 of the 200s, ms", spread=True),
            Column("refused", "503s a second"),
            Column("failed", "no answer"),
            Column("dropped", "not sent"),
            Column("recovery", "recovery, s", "{:.1f}"),
            Column("lost", "acknowledged and lost"),
            Column("extra", "counted, never sent"),
        ),
    ),
)


def measure(run: Run) -> Result:
    """Both web servers in every round."""
    result = Result("overload")
    prepare(run.servers, [OURS])
    likes = Likes(run, OURS)
    capacity = _capacity(run, likes)
    run.say(f"  Capacity with k6 beside it: {capacity:,.0f} likes/s")
    result.notes.append(("overload", f"Capacity with k6 beside it: {capacity:,.0f} likes/s."))
    run.alternate(result, SERVERS, lambda server, _: _overload(run, result, likes, server, capacity * SHARE), at_most=3)
    lost, extra, answered, recovery = (
        result.series("overload", "serve", key) for key in ("lost", "extra", "answered", "recovery")
    )
    result.claim("overload", "acknowledged at twice the capacity, not counted", lost, 0, at_least=False, exact=True)
    result.claim("overload", "likes counted that were refused or not sent", extra, 0, at_least=False, exact=True)
    share = [rate / capacity for rate in answered]
    result.claim("overload", "200s at twice the capacity, as a share of the capacity", share, 0.7)
    result.claim("overload", "seconds until reads are quick again", recovery, 5, at_least=False)
    return result


def _capacity(run: Run, likes: Likes) -> float:
    best, asked = 0.0, FIRST_GUESS
    with OURS.serving(run.servers) as site:
        warm(site, run.servers.folder)
        for _ in range(run.size(4, 1)):
            likes.again()
            answered = likes.arrive(site, rate=asked, seconds=run.size(3, 1))["answered"]
            best = max(best, answered)
            if answered < 0.9 * asked:
                break
            asked *= 2
    return best


def _overload(run: Run, result: Result, likes: Likes, server: str, rate: float) -> None:
    likes.again()
    with OURS.serving(run.servers, server=server) as site:
        warm(site, run.servers.folder)
        likes.arrive(site, rate=rate, seconds=run.size(SECONDS, 1))
        recovery = _recovery(site)
    sent = likes.arrivals
    took = max(at + ms for at, ms, _ in sent) - min(at for at, _, _ in sent)
    good = [ms for _, ms, status in sent if status == 200]
    refused = sum(status == 503 for _, _, status in sent)
    failed = len(sent) - len(good) - refused
    OURS.flush(run.servers)
    counted = sum(OURS.likes_stored(run.servers).values())
    values = {
        "rate": rate, "answered": len(good) / took * 1000, "p99": statistics.quantiles(good, n=100)[98],
        "refused": refused / took * 1000, "failed": float(failed), "dropped": likes.dropped, "recovery": recovery,
        "lost": float(max(0, len(good) - counted)), "extra": float(max(0, counted - len(sent) + refused)),
    }  # fmt: skip
    result.add("overload", server, **values)
    run.say(f"  {server}: " + ", ".join(f"{name} {value:,.1f}" for name, value in values.items()))


def _recovery(site: Site) -> float:
    """Seconds after the last like until reads are quick again."""
    begin, quick = time.monotonic(), 0
    while quick < QUICK_READS and time.monotonic() - begin < PATIENCE_SECONDS:
        asked = time.monotonic()
        try:
            with urllib.request.urlopen(f"{site.url}/api/videos/1/like/", timeout=2) as answer:  # noqa: S310
                answer.read()
            quick = quick + 1 if time.monotonic() - asked < QUICK_SECONDS else 0
        except (OSError, urllib.error.HTTPError):
            quick = 0
    return time.monotonic() - begin
