"""Is the flush felt? p99 of likes while 100,000 changes are flushed, over the p99 without."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from contextlib import suppress

from benchmarks.arrivals import Arrival, Likes, percentile
from benchmarks.contenders import OURS, RECIPE, Contender, Site, prepare
from benchmarks.flush import gather, set_recipe
from benchmarks.load import warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.servers import Servers, StartFailed, start
from benchmarks.traffic import distinct_pairs, take, tokens

CHANGED = 100_000
USERS = 10_000
VIDEOS = 1_000  # that are liked meanwhile
LOAD = 0.25  # of what it can take
QUIET_SECONDS = 6
FLUSH_SECONDS = {"ours": 10, "recipe": 15}  # at most; the start of the process is within
SETTLE_SECONDS = 1.0
START_SECONDS = 2.0  # in which the flush's process starts, where it does not tell by itself: no part of the flush

TABLES = (
    Table(
        "felt",
        "likes at a quarter of what it can take",
        (
            Column("rate", "likes/s"),
            Column("quiet_p50", "p50 ms before", "{:.2f}"),
            Column("flush_p50", "p50 ms in the flush", "{:.2f}"),
            Column("quiet_p99", "p99 ms before", "{:.2f}", spread=True),
            Column("flush_p99", "p99 ms in the flush", "{:.2f}", spread=True),
            Column("ratio", "p99 in over before", "{:.2f}", spread=True),
            Column("seconds", "flush s", "{:.1f}"),
            Column("errors", "errors"),
            Column("dropped", "not sent"),
        ),
    ),
)


def measure(run: Run) -> Result:
    """Ours and the recipe in turn."""
    result = Result("felt", "Is the flush felt?")
    servers = run.servers
    prepare(servers, [OURS, RECIPE])
    changed = run.size(CHANGED, 3_000)
    likes = {c.name: Likes(c, users=USERS, videos=VIDEOS, number=150_000) for c in (OURS, RECIPE)}
    capacity = {c.name: _capacity(run, c) for c in (OURS, RECIPE)}

    def one(contender: Contender, number: int) -> None:
        _gather(servers, contender, changed)
        likes[contender.name].again()
        rate = capacity[contender.name] * LOAD
        with contender.serving(servers) as site:
            warm(site, servers.folder)
            values = _felt(run, site, likes[contender.name], rate, changed)
        result.add("felt", contender.name, number, rate=rate, **values)
        run.say(f"  {number} felt {contender.name}: p99 {values['quiet_p99']:.2f} -> {values['flush_p99']:.2f} ms")

    run.alternate(result, [OURS, RECIPE], one)
    result.claim(
        "p99 of likes during a flush over the p99 without", result.series("felt", "ours", "ratio"), 1.25,
        at_least=False,
    )  # fmt: skip
    result.notes.append(f"The same figure for the recipe: {result.median('felt', 'recipe', 'ratio'):.2f}.")
    return result


def _capacity(run: Run, contender: Contender) -> float:
    """Likes a second in a closed loop: new (user, video) pairs, as they arrive in the measurement."""
    contender.fill(run.servers, users=USERS, videos=VIDEOS)
    signed_in = tokens(USERS)
    pairs = take(distinct_pairs(USERS, VIDEOS, seed=9), run.size(60_000, 10_000))
    path = write_requests(run.servers.folder / "capacity", [contender.like(v, signed_in[u - 1]) for u, v in pairs])
    with contender.serving(run.servers) as site:
        warm(site, run.servers.folder)
        return wrk(site, path, seconds=run.size(4, 1)).rate


def _gather(servers: Servers, contender: Contender, changed: int) -> None:
    contender.fill(servers, users=USERS, videos=changed)
    if contender is OURS:
        gather(servers, videos=changed, users=USERS, likes=changed)
    else:
        set_recipe(servers, "likes", range(1, changed + 1), 1)


def _felt(run: Run, site: Site, likes: Likes, rate: float, changed: int) -> dict[str, float]:
    servers, contender = run.servers, site.contender
    quiet_seconds = run.size(QUIET_SECONDS, 3)
    flush_seconds = run.size(FLUSH_SECONDS[contender.name], 5)
    window: list[float] = []

    def flush() -> None:
        time.sleep(quiet_seconds)
        begin = time.time() + START_SECONDS
        command = contender.manage_command(*contender.flush_command, *(["--json"] if contender is OURS else []))
        process = start(f"felt-{contender.name}", command, servers.folder, contender.environment(servers))
        with suppress(subprocess.TimeoutExpired):  # the recipe's loop takes longer than the load: it is stopped
            process.popen.wait(flush_seconds)
        end = time.time()
        if process.stop() == 0 and (said := process.tail().splitlines()):
            begin = end - json.loads(said[-1])["seconds"]
        window.extend((begin, end))

    flusher = threading.Thread(target=flush)
    flusher.start()
    began = time.time()
    arrivals, dropped = likes.arrive(servers, site, rate=rate, seconds=quiet_seconds + flush_seconds)
    flusher.join()
    refused = sorted({one.status for one in arrivals if not one.good})
    if contender is OURS and refused:
        raise StartFailed(f"Some likes were refused with {refused}.")
    quiet = _between(arrivals, began + SETTLE_SECONDS, began + quiet_seconds)
    within = _between(arrivals, *window)
    if len(within) < 20:
        raise StartFailed(f"{contender.name}: {len(within)} likes fell into a flush of {changed} changes.")
    before, during = percentile(quiet, 99), percentile(within, 99)
    return {
        "quiet_p50": percentile(quiet, 50), "flush_p50": percentile(within, 50), "quiet_p99": before,
        "flush_p99": during, "ratio": during / before, "seconds": window[1] - window[0],
        "errors": float(sum(not one.good for one in arrivals)), "dropped": float(dropped),
    }  # fmt: skip


def _between(arrivals: list[Arrival], begin: float, end: float) -> list[Arrival]:
    return [one for one in arrivals if begin <= one.at_ms / 1000 <= end]
