"""Reads and growth: what a list of 50 videos costs, and JOIN + COUNT beside it, with 500,000 likes on one video.

And from 1,000 to 1,000,000 videos, from 1 to 500,000 likes on a video, and the flush's time by what changed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.contender import Contender, Site
from benchmarks.contenders import FIXED, OURS, ROWS, Ours, prepare
from benchmarks.load import note, replay, warm, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import Request, popular, tokens, write_requests
from benchmarks.wire import live_key
from servers import Servers, StartFailed

LIKES = 500_000
VIDEOS = 1_000
PAGES = (10, 50, 100)
SECONDS = 4
# Growth: rows of a table, by its name
SIZES = {
    "videos": (1_000, 10_000, 100_000, 1_000_000),
    "likes": (1, 1_000, 30_000, 500_000),  # rows of the one video that all like
    "flush": (100, 1_000, 10_000, 100_000),  # changed, of 1,000,000 videos
}
GROWTH_SECONDS = 3
LIKERS = 20_000

_P50 = Column("p50", "p50 ms", "{:.2f}")
_RATE = (Column("rate", "requests/s", "{:,.1f}", spread=True), _P50, Column("p99", "p99 ms", "{:.2f}"))
_GROWTH = (Column("rate", "requests/s", spread=True), _P50, Column("p99", "p99 ms", "{:.2f}", spread=True))
TABLES = (
    Table(
        "cost", "one list request, signed in", (
            Column("queries", "queries", "{:.2f}"),
            Column("calls", "Redis round trips", "{:.2f}"),
            Column("commands", "Redis commands", "{:.1f}"),
        )
    ),
    Table("list", "the newest 50 videos with counts and liked flags", _RATE),
    Table("one", "the number of likes of the video with 500,000", _RATE),
    Table(
        "read", "the same number, asked of the servers directly",
        (Column("us", "µs", "{:,.0f}", spread=True),),
    ),
    Table("videos", "warm views, skewed over so many videos", _GROWTH),
    Table("likes", "likes of one video that has so many rows, state not known to Redis", _GROWTH),
    Table(
        "flush", "flush of so many changed videos of 1,000,000",
        (Column("seconds", "seconds", "{:.3f}", spread=True), Column("per_second", "changes/s")),
    ),
)  # fmt: skip
LABELS = {
    "rows": "JOIN + COUNT over like rows",
    **{f"page_{size}": f"a page of {size}" for size in PAGES},
    "read_ours": "HMGET of the live key",
    "read_rows": "SELECT … COUNT over the like rows",
    "read_column": "SELECT like_count of the row",
    **{f"{table}_{size}": f"{size:,}" for table, sizes in SIZES.items() for size in sizes},
}
PLOTS = (("flush", "growth.svg", "Rate against the number of videos and of likes; flush time against what changed"),)


def measure(run: Run) -> Result:
    """Reads, then growth."""
    result = Result("reads")
    _reads(run, result)
    _videos(run, result)
    _likes(run, result)
    _flush(run, result)
    return result


def _reads(run: Run, result: Result) -> None:
    """What a page costs in queries and calls; then rates beside JOIN + COUNT."""
    servers = run.servers
    prepare(servers, [OURS, ROWS])
    likes = run.size(LIKES, 5_000)
    for contender in (OURS, ROWS):
        contender.fill(servers, users=likes, videos=VIDEOS)
        contender.add_likes(servers, 1, 1, likes)
    servers.sql(f"UPDATE videos_video SET like_count = {likes} WHERE id = 1", database=OURS.database)
    for contender in (OURS, ROWS):
        servers.sql(f"ANALYZE TABLE {contender.app}_video, {contender.app}_videolike", database=contender.database)
    (token,) = tokens(1)
    _cost_of_pages(run, result, token)
    ours = {"list": "/api/videos/?page_size=50", "one": "/api/videos/counts/?ids=1"}
    asked = {OURS: ours, ROWS: {"list": "/api/videos/", "one": "/api/videos/1/"}, FIXED: ours}

    def one(contender: Contender, _: int) -> None:
        with contender.serving(servers) as site:
            warm(site, servers.folder)
            for table, address in asked[contender].items():
                path = write_requests(servers.folder / "reads", [Request("GET", address, token)])
                load = wrk(site, path, seconds=run.size(SECONDS, 1), connections=8)
                if load.errors:
                    raise StartFailed(f"{load.errors} reads of {contender.name} failed.")
                note(run, result, table, contender.name, load)
        if contender is OURS:
            _direct(servers, result)

    run.alternate(result, [OURS, ROWS, FIXED], one)
    direct = result.ratios("read", "read_rows", "read_ours", "us")
    result.claim("read", "a video's likes, JOIN + COUNT's time over that of a live count", direct, 1000)
    for table, what in (("list", "a list of 50"), ("one", "one video's likes")):
        seen = result.ratios(table, "ours", "rows")
        result.claim(table, f"{what} over HTTP, ours over JOIN + COUNT, requests/s", seen, 1000)
        limit = statistics.median(result.ratios(table, "fixed", "rows"))
        text = f"Over HTTP, {what}: a function with a fixed answer is {limit:,.0f} times as fast as JOIN + COUNT."
        result.notes.append((table, text))
    for key, what in (("queries", "queries"), ("calls", "Redis round trips")):
        costs = [round(result.median("cost", page, key)) for page in result.tables["cost"]]
        grown = [float(max(costs) - min(costs))]
        result.claim("cost", f"{what} that a longer page costs more", grown, 0, at_least=False, exact=True)


def _cost_of_pages(run: Run, result: Result, token: str) -> None:
    """Count what the servers see of so many requests, each page size by itself."""
    servers = run.servers
    with OURS.serving(servers, workers=1) as site:
        warm(site, servers.folder)
        for size in PAGES[run.size(0, 1) :]:
            _ask(site, servers, token, size)  # what is cold becomes warm
            before = _seen(servers)
            requests = _ask(site, servers, token, size)
            seen = [(b - a) / requests for a, b in zip(before, _seen(servers), strict=True)]
            result.add("cost", f"page_{size}", **dict(zip(("queries", "calls", "commands"), seen, strict=True)))


def _ask(site: Site, servers: Servers, token: str, size: int) -> int:
    path = write_requests(servers.folder / "page", [Request("GET", f"/api/videos/?page_size={size}", token)])
    load = wrk(site, path, seconds=1, connections=1)
    if load.errors:
        raise StartFailed(f"{load.errors} lists failed.")
    return load.requests


def _seen(servers: Servers) -> tuple[int, int, int]:
    """Queries of the database; round trips (reads of a socket) and commands of Redis, this one's own left out."""
    client = servers.redis_client()
    stats = client.info("commandstats")
    own = ("cmdstat_info", "cmdstat_hello", "cmdstat_client|setinfo", "cmdstat_select")
    commands = sum(told["calls"] for name, told in stats.items() if name not in own)
    reads = int(client.info("stats")["total_reads_processed"])
    return servers.status("Com_select")["com_select"], reads, commands


def _direct(servers: Servers, result: Result) -> None:
    """The same number without a web server between."""
    client = servers.redis_client()
    count = (
        f"SELECT COUNT(*) FROM {ROWS.database}.rows_video v JOIN {ROWS.database}.rows_videolike l ON l.video_id = v.id "
        "WHERE v.id = 1"
    )
    column = f"SELECT like_count FROM {OURS.database}.videos_video WHERE id = 1"
    for name, times, ask in (
        ("read_ours", 500, lambda: client.hmget(live_key(1), "likes", "views")),
        ("read_column", 500, lambda: servers.sql(column)),
        ("read_rows", 5, lambda: servers.sql(count)),
    ):
        began = time.perf_counter()
        for _ in range(times):
            ask()
        result.add("read", name, us=(time.perf_counter() - began) / times * 1e6)


def _grow(
    run: Run, result: Result, table: str, fill: Callable[[Ours, int], None],
    requests: Callable[[Ours, int, int], Sequence[Request]],
) -> None:  # fmt: skip
    """Every size in every round: each has a database of its own, so that sizes take turns."""
    servers = run.servers
    sizes = {
        replace(OURS, name=f"{table}_{size}", database=f"bench_{table}_{size}", redis_db=4 + number): size
        for number, size in enumerate(SIZES[table][: run.size(4, 2)])
    }
    for contender, size in sizes.items():
        contender.migrate(servers)
        fill(contender, size)

    def one(contender: Ours, number: int) -> None:
        path = write_requests(servers.folder / "growth", requests(contender, sizes[contender], number))
        replay(run, result, table, contender.name, contender, path, seconds=run.size(GROWTH_SECONDS, 1))

    run.alternate(result, list(sizes), one)
    for contender in sizes:
        servers.redis_client(contender.redis_db).flushdb()
        servers.sql(f"DROP DATABASE {contender.database}")
    few, *_, many = (contender.name for contender in sizes)
    what = f"{LABELS[many]} {table} over {LABELS[few]}"
    result.claim(table, f"rate, {what}", result.ratios(table, many, few), 0.9)
    result.claim(table, f"p99, {what}", result.ratios(table, many, few, "p99"), 1.25, at_least=False)


def _videos(run: Run, result: Result) -> None:
    def fill(contender: Ours, size: int) -> None:
        contender.fill(run.servers, users=10, videos=size)
        contender.scripts(run.servers).gather(videos=size)

    def requests(contender: Ours, size: int, number: int) -> Sequence[Request]:
        drawn = popular(run.size(60_000, 3_000), size, seed=number)
        return [contender.view(video, f"r{number}n{i}") for i, video in enumerate(drawn)]

    _grow(run, result, "videos", fill, requests)


def _likes(run: Run, result: Result) -> None:
    likers = run.size(LIKERS, 1_000)
    signed_in = tokens(likers)

    def fill(contender: Ours, size: int) -> None:
        contender.fill(run.servers, users=likers + size, videos=10)
        contender.add_likes(run.servers, 1, likers + 1, likers + size)
        run.servers.sql(f"UPDATE videos_video SET like_count = {size} WHERE id = 1", database=contender.database)

    def requests(contender: Ours, size: int, number: int) -> Sequence[Request]:
        run.servers.redis_client(contender.redis_db).flushdb()  # so that each like asks the database for its state
        return [contender.like(1, token) for token in signed_in]

    _grow(run, result, "likes", fill, requests)


def _flush(run: Run, result: Result) -> None:
    servers = run.servers
    OURS.fill(servers, users=10, videos=run.size(1_000_000, 10_000))

    def one(changed: int, number: int) -> None:
        OURS.forget_counts(servers)
        OURS.scripts(servers).gather(videos=changed, views=changed)
        seconds = OURS.flush_all(servers, "views", changed)
        result.add("flush", f"flush_{changed}", seconds=seconds, per_second=changed / seconds)
        run.say(f"  {number} flush of {changed}: {seconds:.3f} s")

    run.alternate(result, SIZES["flush"][: run.size(4, 2)], one)
