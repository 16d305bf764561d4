"""Is the flush felt? p99 of likes while 100,000 changes are flushed, over the p99 without."""

from __future__ import annotations

import os
import time

from benchmarks.contenders import OURS, RECIPE, Contender, prepare
from benchmarks.flush import gather, set_recipe
from benchmarks.load import Load, warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.servers import Process, Servers, StartFailed, start
from benchmarks.traffic import distinct_pairs, take, tokens

CHANGED = 100_000
USERS = 10_000
VIDEOS = 1_000  # that are liked meanwhile
LOAD = 0.25  # of what it can take
CONNECTIONS = 100  # users who think before each like, so that one who waits holds nobody else up
PREPARED = 120_000
WARM_SECONDS = 2
QUIET_SECONDS = 8
FLUSH_SECONDS = 15  # looked at, within the flush
FAST_SECONDS = 2  # the same, of ours as fast as it goes
GENTLY_SECONDS = 50  # of the minute that is between two flushes
START_SECONDS = 15.0  # in which a flush must have begun

LABELS = {
    "gently": f"this service, `--gently {GENTLY_SECONDS}`",
    "nothing": "this service, no flush at all: the noise of these figures",
}
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
        ),
    ),
)


def measure(run: Run) -> Result:
    """Ours and the recipe in turn."""
    result = Result("felt", "Is the flush felt?")
    servers = run.servers
    prepare(servers, [OURS, RECIPE])
    changed = run.size(CHANGED, 40_000)
    signed_in = tokens(USERS)
    pairs = take(distinct_pairs(USERS, VIDEOS, seed=9), run.size(PREPARED, 20_000))
    path = write_requests(servers.folder / "felt", [OURS.like(v, signed_in[u - 1]) for u, v in pairs])
    capacity = {}
    for contender in (OURS, RECIPE):
        contender.fill(servers, users=USERS, videos=VIDEOS)
        with contender.serving(servers) as site:
            warm(site, servers.folder)
            capacity[contender.name] = wrk(site, path, seconds=run.size(4, 2)).rate

    def one(name: str, number: int) -> None:
        contender = RECIPE if name == "recipe" else OURS
        _gather(servers, contender, changed)
        think_ms = round(CONNECTIONS / (capacity[contender.name] * LOAD) * 1000)
        with contender.serving(servers) as site:
            loads: list[Load] = []

            def load(seconds: int) -> Load:
                skip = sum(one.requests + CONNECTIONS for one in loads)
                loads.append(wrk(site, path, seconds=seconds, connections=CONNECTIONS, skip=skip, think_ms=think_ms))
                return loads[-1]

            load(run.size(WARM_SECONDS, 1))
            before = load(run.size(QUIET_SECONDS, 2))
            if name == "nothing":
                during = load(run.size(FLUSH_SECONDS, 1))
            else:
                process = _begin_flush(servers, contender, gently=name == "gently")
                during = load(run.size(FAST_SECONDS if name == "ours" else FLUSH_SECONDS, 1))
                _end_flush(contender, process)
        _note(result, name, number, loads)
        run.say(f"  {number} felt {name}: p99 {before.p99:.2f} -> {during.p99:.2f} ms at {before.rate:,.0f}/s")

    # Redis writes its file anew by how much was written since, whoever wrote it: not within these seconds.
    client = servers.redis_client()
    client.config_set("auto-aof-rewrite-percentage", 0)
    try:
        run.alternate(result, ["ours", "gently", "recipe", "nothing"], one)
    finally:
        client.config_set("auto-aof-rewrite-percentage", 100)
    result.claim(
        "p99 of likes during a flush with --gently over the p99 without", result.series("felt", "gently", "ratio"),
        1.25, at_least=False,
    )  # fmt: skip
    result.notes.append(
        f"The same figure as fast as the flush goes: {result.median('felt', 'ours', 'ratio'):.2f}; for the recipe: "
        f"{result.median('felt', 'recipe', 'ratio'):.2f}; without any flush: "
        f"{result.median('felt', 'nothing', 'ratio'):.2f}."
    )
    return result


def _gather(servers: Servers, contender: Contender, changed: int) -> None:
    contender.fill(servers, users=USERS, videos=changed)
    if contender is OURS:
        gather(servers, videos=changed, users=USERS, likes=changed)
    else:
        set_recipe(servers, "likes", range(1, changed + 1), 1)
    _settle(servers)


def _settle(servers: Servers) -> None:
    """Let what was put there come to rest: else the disk has it to write while the load is measured."""
    client = servers.redis_client()
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.1)
    client.bgrewriteaof()
    time.sleep(0.1)
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.1)
    os.sync()


def _begin_flush(servers: Servers, contender: Contender, *, gently: bool) -> Process:
    """Start a flush, and return when the first rows have moved."""
    arguments = ["--json"] if contender is OURS else []
    arguments += ["--gently", str(GENTLY_SECONDS)] if gently else []
    command = contender.manage_command(*contender.flush_command, *arguments)
    process = start(f"felt-{contender.name}", command, servers.folder, contender.environment(servers))
    limit = time.monotonic() + START_SECONDS
    column = "like_count" if contender is OURS else "good"
    while not servers.sql(
        f"SELECT 1 FROM {contender.app}_video WHERE {column} > 0 LIMIT 1", database=contender.database
    ):
        if time.monotonic() > limit or process.popen.poll() is not None:
            raise StartFailed(f"{process.name} moved nothing:\n{process.tail()}")
        time.sleep(0.02)
    return process


def _end_flush(contender: Contender, process: Process) -> None:
    """Stop the flush, which must have lasted until now."""
    if process.popen.poll() is not None:
        raise StartFailed(f"The flush of {contender.name} was over before the load was: {process.tail()}")
    process.stop()


def _note(result: Result, name: str, number: int, loads: list[Load]) -> None:
    if any(load.errors or load.wrapped for load in loads):
        raise StartFailed(f"Likes of {name} were refused, or not enough were prepared: {loads}")
    _, before, during = loads
    ratio = during.p99 / before.p99
    values = {
        "rate": before.rate, "quiet_p50": before.p50, "flush_p50": during.p50, "quiet_p99": before.p99,
        "flush_p99": during.p99, "ratio": ratio,
    }  # fmt: skip
    result.add("felt", name, number, **values)
