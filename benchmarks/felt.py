"""Is the flush felt? p99 of likes while 100,000 changes are flushed, over the p99 without.

Seconds with a flush and seconds without take turns, several times in one serving of the site: the machine's drift is
as large as what is looked for.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from benchmarks.contender import Contender
from benchmarks.contenders import OURS, RECIPE, prepare
from benchmarks.load import Load, warm, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import distinct_pairs, tokens, write_requests
from benchmarks.wire import SHARDS
from servers import Process, Servers, StartFailed, start

CHANGED = 100_000
USERS = 10_000
VIDEOS = 1_000  # that are liked meanwhile
LOAD = 0.5  # of what it can take
CONNECTIONS = 100  # users who think before each like, so that one who waits holds no other up
PREPARED = 250_000
CAPACITY_SECONDS = 4
WARM_SECONDS = 2
WINDOW_SECONDS = 8
GENTLY_SECONDS = 50  # of the minute that is between two flushes
START_SECONDS = 15.0  # in which a flush must have begun
# Computes as long as a chunk of a flush takes, then rests; touches no server and no file.
COMPUTE = """
import time
while True:
    end = time.thread_time() + 0.012
    while time.thread_time() < end:
        pass
    time.sleep(0.085)
"""


@dataclass(frozen=True)
class Kind:
    """What goes on beside the likes."""

    name: str
    contender: Contender = OURS
    turns: int = 2  # in so many the changes are flushed, with as many seconds without a flush before each
    seconds: int = WINDOW_SECONDS  # looked at, within the flush

    @property
    def flushes(self) -> bool:
        """Whether there is a flush at all."""
        return self.name not in {"compute", "nothing"}


KINDS = (
    Kind("gently", turns=4),
    Kind("ours", turns=1, seconds=2),  # it is over in about four
    Kind("recipe", RECIPE),
    Kind("compute"),
    Kind("nothing"),
)
LABELS = {
    "ours": "this service, as fast as it goes",
    "gently": f"this service, `--gently {GENTLY_SECONDS}`",
    "compute": "no flush, but a process that computes for 12 ms of every 100",
    "nothing": "no flush at all: the noise of these figures",
}
TABLES = (
    Table(
        "felt",
        "likes at half of what it can take",
        (
            Column("rate", "likes/s"),
            Column("quiet_p50", "p50 ms without", "{:.2f}"),
            Column("flush_p50", "p50 ms in the flush", "{:.2f}"),
            Column("quiet_p99", "p99 ms without", "{:.2f}", spread=True),
            Column("flush_p99", "p99 ms in the flush", "{:.2f}", spread=True),
            Column("ratio", "p99 in over without", "{:.2f}", spread=True),
        ),
    ),
)


def measure(run: Run) -> Result:
    """Ours, gently and not, the recipe, a process that computes, and nothing, in turn."""
    result = Result("felt")
    servers = run.servers
    prepare(servers, [OURS, RECIPE])
    signed_in = tokens(USERS)
    pairs = distinct_pairs(USERS, VIDEOS, run.size(PREPARED, 20_000), seed=9)
    path = write_requests(servers.folder / "felt", [OURS.like(v, signed_in[u - 1]) for u, v in pairs])

    def one(kind: Kind, number: int) -> None:
        _gather(servers, kind.contender, run.size(CHANGED, 30_000 if kind.flushes else 1_000))
        loads: list[Load] = []
        with kind.contender.serving(servers) as site:
            warm(site, servers.folder)

            def load(seconds: int, think_ms: int) -> Load:
                skip = sum(one.requests + CONNECTIONS for one in loads)
                loads.append(wrk(site, path, seconds=seconds, connections=CONNECTIONS, skip=skip, think_ms=think_ms))
                return loads[-1]

            # What it can take as it is now: with changes gathered, and users of whom Redis does not know.
            capacity = load(run.size(CAPACITY_SECONDS, 1), 0).rate
            think_ms = round(CONNECTIONS / (capacity * LOAD) * 1000)
            if not run.quick:
                load(WARM_SECONDS, think_ms)
            without, within = [], []
            for turn in range(run.size(kind.turns, 1)):
                without.append(load(run.size(WINDOW_SECONDS, 1), think_ms))
                with _beside(servers, kind, turn):
                    within.append(load(run.size(kind.seconds, 1), think_ms))
        if any(load.errors or load.wrapped for load in loads):
            raise StartFailed(f"Likes of {kind.name} were refused, or not enough were prepared: {loads}")
        _note(run, result, kind, number, without, within)

    # Redis rewrites its file by how much was written since, whichever topic wrote it: not within these seconds.
    client = servers.redis_client()
    client.config_set("auto-aof-rewrite-percentage", 0)
    try:
        run.alternate(result, KINDS, one)
    finally:
        client.config_set("auto-aof-rewrite-percentage", 100)
    what = "p99 of likes during a flush with --gently over the p99 without"
    result.claim("felt", what, result.series("felt", "gently", "ratio"), 1.25, at_least=False)
    figures = {kind.name: f"{result.median('felt', kind.name, 'ratio'):.2f}" for kind in KINDS}
    text = (
        f"The same figure as fast as the flush goes: {figures['ours']}; for the recipe: {figures['recipe']}; beside a "
        f"process that computes for 12 ms of every 100: {figures['compute']}; without any flush: {figures['nothing']}."
    )
    result.notes.append(("felt", text))
    return result


def _gather(servers: Servers, contender: Contender, changed: int) -> None:
    contender.fill(servers, users=USERS, videos=changed)
    if contender is OURS:
        OURS.scripts(servers).gather(videos=changed, users=USERS, likes=changed)
    else:
        RECIPE.set_keys(servers, "likes", range(1, changed + 1), 1)
    _settle(servers)


def _settle(servers: Servers) -> None:
    """Let what was put there come to rest: else the disk has it to write while the load is measured."""
    client = servers.redis_client()

    def rewriting() -> bool:
        return bool(client.info("persistence")["aof_rewrite_in_progress"])

    while rewriting():
        time.sleep(0.1)
    client.bgrewriteaof()
    time.sleep(0.1)
    while rewriting():
        time.sleep(0.1)
    os.sync()


@contextmanager
def _beside(servers: Servers, kind: Kind, turn: int) -> Iterator[None]:
    """Run this turn's part of the flush, or what stands for it; it must last until the end."""
    contender = kind.contender
    if kind.name == "nothing":
        yield
        return
    if kind.name == "compute":
        command = [sys.executable, "-c", COMPUTE]
    else:
        options = _part(servers, kind, turn) if contender is OURS else []
        command = contender.manage_command(*contender.flush_command, *options)
    before = _updates(servers)
    process = start(f"felt-{kind.name}", command, servers.folder, contender.environment(servers))
    try:
        if kind.flushes:
            _wait_for_rows(servers, process, before)
        yield
        if not process.running:
            raise StartFailed(f"{process.name} was over before the load was: {process.tail()}")
    finally:
        process.stop()


def _part(servers: Servers, kind: Kind, turn: int) -> list[str]:
    """The options of this turn's part of the flush: its shards; and, of a gentle one, as many seconds as it has work.

    The likes that arrived meanwhile are work as well.
    """
    each = SHARDS // kind.turns
    shards = range(turn * each, (turn + 1) * each)
    options = ["--shards", f"{shards[0]}-{shards[-1]}"]
    if kind.name == "gently":
        waiting = OURS.scripts(servers).pending_fields(shards)
        options += ["--gently", f"{GENTLY_SECONDS * waiting / CHANGED:.1f}"]
    return options


def _wait_for_rows(servers: Servers, process: Process, before: int) -> None:
    limit = time.monotonic() + START_SECONDS
    while _updates(servers) == before:
        if time.monotonic() > limit or not process.running:
            raise StartFailed(f"{process.name} moved nothing:\n{process.tail()}")
        time.sleep(0.02)


def _updates(servers: Servers) -> int:
    """Statements of a flush; likes insert rows at most."""
    return servers.status("Com_update")["com_update"]


def _note(run: Run, result: Result, kind: Kind, number: int, without: Sequence[Load], within: Sequence[Load]) -> None:
    quiet, flush = (
        {key: median(getattr(load, key) for load in loads) for key in ("rate", "p50", "p99")}
        for loads in (without, within)
    )
    ratio = flush["p99"] / quiet["p99"] if quiet["p99"] else float("inf")  # a window in which nothing was answered
    values = {
        "rate": quiet["rate"], "quiet_p50": quiet["p50"], "flush_p50": flush["p50"], "quiet_p99": quiet["p99"],
        "flush_p99": flush["p99"], "ratio": ratio,
    }  # fmt: skip
    result.add("felt", kind.name, **values)
    shown = [" ".join(f"{load.p99:.1f}" for load in loads) for loads in (without, within)]
    run.say(f"  {number} felt {kind.name}: p99 {' -> '.join(shown)} ms at {quiet['rate']:,.0f}/s")
