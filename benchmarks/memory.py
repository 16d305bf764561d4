"""Memory: of a web worker, of the flush, of Redis for each thing that it holds."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.contenders import OURS, RECIPE, Contender, prepare
from benchmarks.flush import MEBIBYTE, flush_with_usage, gather, set_recipe
from benchmarks.load import warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import popular
from servers import Servers, resident_bytes

ITEMS = 100_000
VIDEOS = 1_000
SECONDS = 4

TABLES = (
    Table("worker", "a web worker after warm views", (Column("mb", "resident MiB"), Column("peak_mb", "peak MiB"))),
    Table(
        "flush", "the flush's process", (Column("fields", "fields"), Column("peak_mb", "peak MiB"))
    ),
    Table("redis", "Redis, an item", (Column("bytes", "bytes"),)),
)  # fmt: skip
LABELS = {
    "idle": "nothing pending", "pending": "100,000 views pending",
    "live": "a video that is live", "liked": "what a user thinks of a video, known (15 min)",
    "view": "a view: seen (30 min) and its share of pending", "like": "a like: pending, and known",
    "recipe_key": "the recipe's key of a video (for ever)",
}  # fmt: skip


def measure(run: Run) -> Result:
    """Once: memory does not vary as times do."""
    result = Result("memory", "Memory")
    servers = run.servers
    prepare(servers, [OURS, RECIPE])
    for contender in (OURS, RECIPE):
        values = _worker(run, contender)
        result.add("worker", contender.name, 1, **values)
        run.say(f"  worker of {contender.name}: {values['mb']:.0f} MiB")
    _flush(run, result)
    _redis(run, result)
    return result


def _worker(run: Run, contender: Contender) -> dict[str, float]:
    servers = run.servers
    contender.fill(servers, users=10, videos=VIDEOS)
    drawn = popular(run.size(60_000, 2_000), VIDEOS, seed=13)
    path = write_requests(servers.folder / "memory", [contender.view(v, f"m{i}") for i, v in enumerate(drawn)])
    with contender.serving(servers) as site:
        warm(site, servers.folder)
        wrk(site, path, seconds=run.size(SECONDS, 1))
        # The first process only watches over the workers.
        workers = [pid for pid in site.process.pids() if pid != site.process.popen.pid]
        held = max(workers, key=resident_bytes)
        return {"mb": resident_bytes(held) / MEBIBYTE, "peak_mb": resident_bytes(held, peak=True) / MEBIBYTE}


def _flush(run: Run, result: Result) -> None:
    servers, items = run.servers, run.size(ITEMS, 2_000)
    OURS.fill(servers, users=10, videos=items)
    for name, changed in (("idle", 0), ("pending", items)):
        gather(servers, videos=changed, views=changed)
        report, peak = flush_with_usage(servers)
        result.add("flush", name, 1, fields=report["applied"], peak_mb=peak / MEBIBYTE)


def _redis(run: Run, result: Result) -> None:
    servers, items = run.servers, run.size(ITEMS, 2_000)
    few = max(1, items // 1_000)

    def grown(name: str, fill: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        for number in (OURS.redis_db, RECIPE.redis_db):
            servers.redis_client(number).flushdb()
        before()
        empty = _used(servers)
        fill()
        result.add("redis", name, 1, bytes=(_used(servers) - empty) / items)

    pairs = [(i % items + 1, i % few + 1) for i in range(items)]
    grown("live", lambda: gather(servers, videos=items))
    grown("liked", lambda: gather(servers, videos=0, pairs=pairs))
    grown("view", lambda: gather(servers, videos=0, views=items), lambda: gather(servers, videos=items))
    grown("like", lambda: gather(servers, videos=0, likes=items, users=items), lambda: gather(servers, videos=items))
    grown("recipe_key", lambda: set_recipe(servers, "likes", range(1, items + 1), 1))


def _used(servers: Servers) -> int:
    return int(servers.redis_client().info("memory")["used_memory_dataset"])
