"""What a million likes cost: CPU in web, Redis, database and flush; commits, rows written and binlog bytes.

And memory: of a web worker, of the flush, of Redis for each thing that it holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.contender import Contender
from benchmarks.contenders import OURS, RECIPE, prepare
from benchmarks.flush import MEBIBYTE
from benchmarks.load import warm, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import distinct_pairs, popular, tokens, write_requests
from servers import Servers, cpu_seconds, resident_bytes

USERS = 20_000
VIDEOS = 1_000
SECONDS = 8
PREPARED = 120_000
FLUSH_EVERY_SECONDS = 2
MILLION = 1_000_000
ITEMS = 100_000

TABLES = (
    Table(
        "cost",
        "a million likes, a flush every 2 s",
        (
            Column("web", "web CPU s", spread=True),
            Column("redis", "Redis CPU s"),
            Column("database", "database CPU s"),
            Column("flush", "flush CPU s"),
            Column("total", "all CPU s", spread=True),
            Column("commits", "commits"),
            Column("rows", "rows written"),
            Column("binlog_mb", "binlog MiB"),
        ),
    ),
    Table("worker", "a web worker after warm views", (Column("mb", "resident MiB"), Column("peak_mb", "peak MiB"))),
    Table("flush", "the flush's process", (Column("fields", "fields"), Column("peak_mb", "peak MiB"))),
    Table("redis", "Redis, an item", (Column("bytes", "bytes"),)),
)
LABELS = {
    "idle": "nothing pending", "pending": "100,000 views pending",
    "live": "a video that is live", "liked": "what a user thinks of a video, known (15 min)",
    "view": "a view: seen (30 min) and its share of pending", "like": "a like: pending, and known",
    "recipe_key": "the recipe's key of a video (for ever)",
}  # fmt: skip
PLOTS = (("cost", "cost.svg", "CPU seconds for a million likes"),)
PARTS = ("web", "redis", "database", "flush")


def measure(run: Run) -> Result:
    """Ours and the recipe in turn; then memory, once: it does not vary as times do."""
    result = Result("cost")
    prepare(run.servers, [OURS, RECIPE])
    _million(run, result)
    for contender in (OURS, RECIPE):
        values = _worker(run, contender)
        result.add("worker", contender.name, **values)
        run.say(f"  worker of {contender.name}: {values['mb']:.0f} MiB")
    _flush(run, result)
    _redis(run, result)
    return result


def _million(run: Run, result: Result) -> None:
    """New likes as fast as they are answered, then a last flush."""
    signed_in = tokens(USERS)
    pairs = distinct_pairs(USERS, VIDEOS, run.size(PREPARED, 20_000), seed=11)
    requests = [OURS.like(video, signed_in[user - 1]) for user, video in pairs]
    path = write_requests(run.servers.folder / "cost", requests)

    def one(contender: Contender, number: int) -> None:
        contender.fill(run.servers, users=USERS, videos=VIDEOS)
        values = _cost(run, contender, path)
        result.add("cost", contender.name, **values)
        run.say(
            f"  {number} {contender.name}: {values['total']:,.0f} CPU s, {values['commits']:,.0f} commits a million"
        )

    run.alternate(result, [OURS, RECIPE], one)
    for key, what in (("total", "CPU"), ("database", "database CPU"), ("commits", "commits"), ("binlog_mb", "binlog")):
        seen = result.ratios("cost", "recipe", "ours", key)
        result.claim("cost", f"{what} of a million likes, the recipe's over ours", seen, 1)


def _cost(run: Run, contender: Contender, requests: Path) -> dict[str, float]:
    servers, every = run.servers, run.size(FLUSH_EVERY_SECONDS, 1)
    with contender.serving(servers) as site:
        warm(site, servers.folder)
        before = _spent(servers)
        web = cpu_seconds(site.process.pids())
        with contender.flushing(servers, every) as flusher:
            time.sleep(1)  # its start is no like's cost
            flush = cpu_seconds(flusher.pids())
            load = wrk(site, requests, seconds=run.size(SECONDS, 1))
            time.sleep(2 * every)  # all that gathered is flushed
            flush = cpu_seconds(flusher.pids()) - flush
        web = cpu_seconds(site.process.pids()) - web
        spent = {name: value - before[name] for name, value in _spent(servers).items()}
    likes = sum(contender.like_rows(servers).values())
    if likes < load.requests:
        raise ValueError(f"{contender.name}: of {load.requests} likes {likes} are in the rows.")
    spent |= {"web": web, "flush": flush}
    spent["total"] = sum(spent[part] for part in PARTS)
    return {name: value / likes * MILLION for name, value in spent.items()}


def _spent(servers: Servers) -> dict[str, float]:
    status = servers.status(
        "Binlog_bytes_written", "Binlog_commits", "Handler_write", "Handler_update", "Handler_delete"
    )
    return {
        "redis": cpu_seconds(servers.redis_server.pids()),
        "database": cpu_seconds(servers.database.pids()),
        "commits": float(status["binlog_commits"]),
        "rows": float(sum(value for name, value in status.items() if name.startswith("handler"))),
        "binlog_mb": status["binlog_bytes_written"] / MEBIBYTE,
    }


def _worker(run: Run, contender: Contender) -> dict[str, float]:
    servers = run.servers
    contender.fill(servers, users=10, videos=VIDEOS)
    drawn = popular(run.size(60_000, 2_000), VIDEOS, seed=13)
    path = write_requests(servers.folder / "memory", [contender.view(v, f"m{i}") for i, v in enumerate(drawn)])
    with contender.serving(servers) as site:
        warm(site, servers.folder)
        wrk(site, path, seconds=run.size(4, 1))
        # The first process only watches over the workers.
        workers = [pid for pid in site.process.pids() if pid != site.process.pid]
        held = max(workers, key=resident_bytes)
        return {"mb": resident_bytes(held) / MEBIBYTE, "peak_mb": resident_bytes(held, peak=True) / MEBIBYTE}


def _flush(run: Run, result: Result) -> None:
    servers, items = run.servers, run.size(ITEMS, 2_000)
    OURS.fill(servers, users=10, videos=items)
    for name, changed in (("idle", 0), ("pending", items)):
        OURS.scripts(servers).gather(videos=changed, views=changed)
        report, peak = OURS.flush_with_peak(servers)
        result.add("flush", name, fields=report["applied"], peak_mb=peak / MEBIBYTE)


def _redis(run: Run, result: Result) -> None:
    servers, items = run.servers, run.size(ITEMS, 2_000)
    few = max(1, items // 1_000)
    gather = OURS.scripts(servers).gather

    def grown(name: str, fill: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        OURS.forget_counts(servers)
        servers.redis_client(RECIPE.redis_db).flushdb()
        before()
        empty = _used(servers)
        fill()
        result.add("redis", name, bytes=(_used(servers) - empty) / items)

    pairs = [(i % items + 1, i % few + 1) for i in range(items)]
    grown("live", lambda: gather(videos=items))
    grown("liked", lambda: gather(unliked=pairs))
    grown("view", lambda: gather(views=items), lambda: gather(videos=items))
    grown("like", lambda: gather(likes=items, users=items), lambda: gather(videos=items))
    grown("recipe_key", lambda: RECIPE.set_keys(servers, "likes", range(1, items + 1), 1))


def _used(servers: Servers) -> int:
    return int(servers.redis_client().info("memory")["used_memory_dataset"])
