"""Reads: what a list of 50 videos costs, and JOIN + COUNT beside it, with 500,000 likes on one video."""

from __future__ import annotations

import statistics
import time

from benchmarks.contenders import FIXED, OURS, ROWS, Contender, Request, Site, prepare
from benchmarks.load import warm, write_requests, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import tokens
from servers import Servers, StartFailed

LIKES = 500_000
VIDEOS = 1_000
PAGES = (10, 50, 100)
REQUESTS = 200
SECONDS = 4

_RATE = (
    Column("rate", "requests/s", "{:,.1f}", spread=True),
    Column("p50", "p50 ms", "{:.2f}"),
    Column("p99", "p99 ms", "{:.2f}"),
)
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
)  # fmt: skip
LABELS = {
    "rows": "JOIN + COUNT over like rows",
    **{f"page_{size}": f"a page of {size}" for size in PAGES},
    "read_ours": "HMGET of the live key",
    "read_rows": "SELECT … COUNT over the like rows",
    "read_column": "SELECT like_count of the row",
}


def measure(run: Run) -> Result:
    """What a page costs in queries and calls; then rates beside JOIN + COUNT."""
    result = Result("reads", "Reads")
    servers = run.servers
    prepare(servers, [OURS, ROWS])
    likes = run.size(LIKES, 5_000)
    for contender in (OURS, ROWS):
        contender.fill(servers, users=likes, videos=VIDEOS)
        servers.sql(
            f"INSERT INTO {contender.app}_videolike (video_id, user_id, created_at) SELECT 1, seq, NOW() "
            f"FROM seq_1_to_{likes}", database=contender.database,
        )  # fmt: skip
    servers.sql(f"UPDATE videos_video SET like_count = {likes} WHERE id = 1", database=OURS.database)
    for contender in (OURS, ROWS):
        servers.sql(f"ANALYZE TABLE {contender.app}_video, {contender.app}_videolike", database=contender.database)
    (token,) = tokens(1)
    _cost_of_pages(run, result, token)
    ours = {"list": "/api/videos/?page_size=50", "one": "/api/videos/counts/?ids=1"}
    asked = {OURS: ours, ROWS: {"list": "/api/videos/", "one": "/api/videos/1/"}, FIXED: ours}

    def one(contender: Contender, number: int) -> None:
        with contender.serving(servers) as site:
            warm(site, servers.folder)
            for table, address in asked[contender].items():
                path = write_requests(servers.folder / "reads", [Request("GET", address, token)])
                load = wrk(site, path, seconds=run.size(SECONDS, 1), connections=8)
                if load.errors:
                    raise StartFailed(f"{load.errors} reads of {contender.name} failed.")
                result.add(table, contender.name, number, **load.values())
                run.say(f"  {number} {table} {contender.name}: {load.rate:,.1f}/s, p50 {load.p50:.2f} ms")
        if contender is OURS:
            _direct(servers, result, number)

    run.alternate(result, [OURS, ROWS, FIXED], one)
    direct = result.ratios("read", "read_rows", "read_ours", "us")
    result.claim("a video's likes, JOIN + COUNT's time over that of a live count", direct, 1000)
    for table, what in (("list", "a list of 50"), ("one", "one video's likes")):
        seen = result.ratios(table, "ours", "rows")
        result.claim(f"{what} over HTTP, ours over JOIN + COUNT, requests/s", seen, 1000)
        limit = statistics.median(result.ratios(table, "fixed", "rows"))
        result.notes.append(
            f"Over HTTP, {what}: a function that asks nobody is {limit:,.0f} times as fast as JOIN + COUNT."
        )
    for key, what in (("queries", "queries"), ("calls", "Redis round trips")):
        costs = [round(result.median("cost", f"page_{size}", key)) for size in PAGES]
        grown = [float(max(costs) - min(costs))]
        result.claim(f"{what} that a longer page costs more", grown, 0, at_least=False, exact=True)
    return result


def _cost_of_pages(run: Run, result: Result, token: str) -> None:
    """Count what the servers see of so many requests, each page size by itself."""
    servers = run.servers
    with OURS.serving(servers, workers=1) as site:
        warm(site, servers.folder)
        for size in PAGES:
            _ask(site, servers, token, size)  # what is cold becomes warm
            before = _seen(servers)
            requests = _ask(site, servers, token, size)
            queries, calls, commands = (b - a for a, b in zip(before, _seen(servers), strict=True))
            values = {"queries": queries / requests, "calls": calls / requests, "commands": commands / requests}
            result.add("cost", f"page_{size}", 1, **values)
            run.say(f"  page of {size}: {values}")


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


def _direct(servers: Servers, result: Result, number: int) -> None:
    """The same number without a web server between."""
    client = servers.redis_client()
    live = "{videos:1}:live:1"
    count = (
        f"SELECT COUNT(*) FROM {ROWS.database}.rows_video v JOIN {ROWS.database}.rows_videolike l ON l.video_id = v.id "
        "WHERE v.id = 1"
    )
    column = f"SELECT like_count FROM {OURS.database}.videos_video WHERE id = 1"
    for name, times, ask in (
        ("read_ours", 500, lambda: client.hmget(live, "likes", "views")),
        ("read_column", 500, lambda: servers.sql(column)),
        ("read_rows", 5, lambda: servers.sql(count)),
    ):
        began = time.perf_counter()
        for _ in range(times):
            ask()
        result.add("read", name, number, us=(time.perf_counter() - began) / times * 1e6)
