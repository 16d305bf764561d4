"""What trends among a million videos: pages over HTTP, and the sum over hour rows that they replace."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable

from benchmarks.contender import Site
from benchmarks.contenders import OURS, prepare
from benchmarks.load import warm, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import Request, write_requests
from servers import Servers, StartFailed

VIDEOS = 1_000_000
HOURS = 3  # rows of each video
SECONDS = 4
PAGE = 50
READS = 200  # of a statement, of which the median is taken
GOAL_MS = 2
UNIT = 2**32
HALF_LIVES = {"day": 6, "week": 42}
PATHS = {
    "day": f"/api/trending/?page_size={PAGE}",
    "week": f"/api/trending/?window=week&page_size={PAGE}",
    "ordering": f"/api/videos/?ordering=trending&page_size={PAGE}",
    "deep": "",  # the link of a page in the middle
}
LABELS = {
    "day": "`/api/trending/`", "week": "`/api/trending/?window=week`", "ordering": "`/api/videos/?ordering=trending`",
    "deep": "a page in the middle",
}  # fmt: skip
TABLES = (
    Table(
        "trending", "a page of 50 of 1,000,000 videos", (
            Column("statement", "statement, ms", "{:.2f}", spread=True),
            Column("p50", "p50 ms", "{:.2f}", spread=True),
            Column("p99", "p99 ms", "{:.2f}", spread=True),
            Column("scan", "sum over hour rows, ms", "{:,.0f}"),
        )
    ),
)  # fmt: skip


def measure(run: Run) -> Result:
    """Fill the tables once; then each kind of page in every round."""
    result = Result("trending")
    prepare(run.servers, [OURS])
    now = _build(run, run.size(VIDEOS, 3_000))

    def one(kind: str, _: int) -> None:
        window = "week" if kind == "week" else "day"
        with OURS.serving(run.servers, workers=1) as site:
            warm(site, run.servers.folder)
            path = PATHS[kind] or _middle(run.servers, site)
            load = wrk(site, write_requests(run.servers.folder / "trending", [Request("GET", path)]),
                       seconds=run.size(SECONDS, 1), connections=1)  # fmt: skip
            if load.errors:
                raise StartFailed(f"{load.errors} pages failed.{site.process.tail()}")
            if kind == window:
                began = time.perf_counter()
                right = _summed(run.servers, window, now)
                scan = (time.perf_counter() - began) * 1000
                wrong = sum(one != other for one, other in zip(_page(site, path), right, strict=True))
                result.add("trending", kind, scan=scan, wrong=float(wrong))
        statement = _timed(lambda: _read(run.servers, window, kind))
        result.add("trending", kind, statement=statement, p50=load.p50, p99=load.p99)
        run.say(f"  {kind}: statement {statement:.2f}, p50 {load.p50:.2f}, p99 {load.p99:.2f} ms")

    run.alternate(result, list(PATHS), one, at_most=5)
    for kind in PATHS:
        seen = result.series("trending", kind, "statement")
        result.claim("trending", f"the statement of {LABELS[kind]}, ms", seen, GOAL_MS, at_least=False)
    wrong = [value for kind in HALF_LIVES for value in result.series("trending", kind, "wrong")]
    result.claim("trending", "places that differ from the sum over hour rows", wrong, 0, at_least=False, exact=True)
    return result


def _build(run: Run, videos: int) -> int:
    """Videos with views in some hours, and their scores by MariaDB's arithmetic. Returns the hour, since 1970."""
    servers = run.servers
    OURS.fill(servers, users=10, videos=videos)
    now = int(time.time()) // 3600
    ask = {"database": OURS.database}
    ago = "(v.seq * 7 + h.seq * 31) MOD 160"
    servers.sql(
        "INSERT IGNORE INTO videos_videohour (video_id, hour, likes, views) "
        f"SELECT v.seq, '1970-01-01' + INTERVAL ({now} - {ago}) HOUR, 0, 1 + CRC32(v.seq * 3 + h.seq) MOD 1000 "
        f"FROM seq_1_to_{videos} v JOIN seq_1_to_{HOURS} h",
        **ask,
    )
    sums = ", ".join(f"ROUND({UNIT}e0 * ({now} / {life}e0 + LOG2({_sum(now, life)})))" for life in HALF_LIVES.values())
    servers.sql(
        "INSERT INTO videos_trendingvideo (video_id, by_day, by_week) "
        f"SELECT video_id, {sums} FROM videos_videohour GROUP BY video_id",
        **ask,
    )
    servers.sql("ANALYZE TABLE videos_video, videos_videohour, videos_trendingvideo", **ask)
    run.say(f"  {videos:,} videos are there, with {HOURS} hours each")
    return now


def _sum(now: int, life: int) -> str:
    return f"SUM(views * POW(2, (TIMESTAMPDIFF(HOUR, '1970-01-01', hour) - {now}) / {life}e0))"


def _summed(servers: Servers, window: str, now: int) -> list[int]:
    rows = servers.sql(
        f"SELECT video_id FROM videos_videohour GROUP BY video_id ORDER BY "
        f"ROUND({UNIT}e0 * LOG2({_sum(now, HALF_LIVES[window])})) DESC, video_id DESC LIMIT {PAGE}",
        database=OURS.database,
    )
    return [video_id for (video_id,) in rows]


def _read(servers: Servers, window: str, kind: str) -> None:
    """The statement of `trending_videos`."""
    where = ""
    if kind == "deep":
        where = "WHERE t.by_day <= @middle AND (t.by_day < @middle OR t.video_id < 1)"
    servers.sql(
        f"SELECT t.by_{window}, v.* FROM videos_trendingvideo t STRAIGHT_JOIN videos_video v ON v.id = t.video_id "
        f"{where.replace('@middle', str(_MIDDLE.get('score', 0)))} "
        f"ORDER BY t.by_{window} DESC, t.video_id DESC LIMIT {PAGE + 1}",
        database=OURS.database,
    )


_MIDDLE: dict[str, int] = {}


def _middle(servers: Servers, site: Site) -> str:
    """The address of a page in the middle of the list."""
    from base64 import urlsafe_b64encode

    if not _MIDDLE:
        ((count,),) = servers.sql("SELECT COUNT(*) FROM videos_trendingvideo", database=OURS.database)
        ((score,),) = servers.sql(
            f"SELECT by_day FROM videos_trendingvideo ORDER BY by_day DESC LIMIT 1 OFFSET {count // 2}",
            database=OURS.database,
        )
        _MIDDLE["score"] = score
    cursor = urlsafe_b64encode(json.dumps([_MIDDLE["score"], 1, 0]).encode()).decode()
    return f"{PATHS['day']}&cursor={cursor}"


def _page(site: Site, path: str) -> list[int]:
    with urllib.request.urlopen(f"{site.url}{path}", timeout=9) as answer:  # noqa: S310
        return [video["id"] for video in json.load(answer)["results"]]


def _timed(read: Callable[[], None]) -> float:
    took = []
    for _ in range(READS):
        began = time.perf_counter()
        read()
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[len(took) // 2]
