"""Search among a million videos, over HTTP, and the full scan by LIKE that it replaced, asked of the database."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlencode

from benchmarks.contender import VIDEO, Site
from benchmarks.contenders import OURS, prepare
from benchmarks.load import warm, wrk
from benchmarks.results import Column, Result, Run, Table
from benchmarks.traffic import Request, write_requests
from servers import Servers, StartFailed, call

VIDEOS = 1_000_000
SECONDS = 4
PAGE = 50
SCANS = 3
GOAL_MS = 20
# The words of a video, by Zipf's law: the n-th most frequent of so many is taken 1/n as often as the first.
VOCABULARY = 50_000
TITLE, TEXT, KOREAN = 5, 15, 5
SYLLABLES = ["bo", "ko", "ri", "ta", "me", "na", "lu", "si", "do", "pe"]
HANGUL = "".join(chr(0xAC00 + 174 * place) for place in range(64))


def latin(rank: int) -> str:
    """The word of this rank: its digits as syllables, so that frequent words are short."""
    return "".join(SYLLABLES[int(digit)] for digit in str(rank))


def korean(rank: int) -> str:
    """The Korean word of this rank, of three letters."""
    return "".join(HANGUL[place % len(HANGUL)] for place in (rank * 7 + 3, rank // 8, rank // 512))


ORDERINGS = ("-created_at", "-like_count", "created_at")
RARE, COMMON, BETWEEN = range(31_000, 31_200, 10), range(1, 10), range(250, 270)
KINDS: dict[str, Sequence[str]] = {
    "rare": [latin(rank) for rank in RARE],
    "common": [latin(rank) for rank in COMMON],
    "rare_common": [f"{latin(rank)} {latin(rank % 9 + 1)}" for rank in RARE],
    "two_common": [f"{latin(rank)} {latin(rank % 9 + 1)}" for rank in COMMON],
    "korean_letter": list(HANGUL[:20]),
    "korean_pair": [korean(rank)[:2] for rank in RARE],
    "korean_word": [korean(rank) for rank in RARE],
    "none": [*(f"xyz{i}" for i in range(10)), *(f"xyz{latin(i)} {latin(i)}" for i in range(1, 10))],
    "between": [latin(rank) for rank in BETWEEN],
    "two_between": [f"{latin(rank)} {latin(rank + 100)}" for rank in BETWEEN],
}
LABELS = {
    "rare": "a rare word (60 videos)", "common": "a common word (most videos)",
    "rare_common": "a rare and a common word",
    "two_common": "two common words", "korean_letter": "a Korean letter", "korean_pair": "two Korean letters",
    "korean_word": "a Korean word of three", "none": "nothing is found", "between": "a word of 2 % of the videos",
    "two_between": "two words of 2 % each, seldom together", "build": "all videos",
}  # fmt: skip
TABLES = (
    Table("index", "`manage.py index_videos`", (Column("seconds", "seconds"), Column("mb", "MiB of the table"))),
    Table(
        "search", "a page of 50", (
            Column("p50", "p50 ms", "{:.1f}"),
            Column("p99", "p99 ms", "{:.1f}", spread=True),
            Column("scan", "full scan, ms", "{:,.1f}"),
        )
    ),
)  # fmt: skip


def measure(run: Run) -> Result:
    """Index all videos once; then each kind of search in every round."""
    result = Result("search")
    prepare(run.servers, [OURS])
    _build(run, result, run.size(VIDEOS, 3_000))

    def one(kind: str, _: int) -> None:
        words = KINDS[kind]
        scan = _scan(run.servers, words)
        with OURS.serving(run.servers, workers=1) as site:
            warm(site, run.servers.folder)
            requests = [Request("GET", _path(text, by)) for by in ORDERINGS for text in words]
            path = write_requests(run.servers.folder / "search", requests)
            wrk(site, path, seconds=1, connections=1)
            load = wrk(site, path, seconds=run.size(SECONDS, 1), connections=1)
            if load.errors:
                raise StartFailed(f"{load.errors} searches failed.{site.process.tail()}")
            if kind == "rare":
                wrong = sum(_found(site, text) != _scanned(run.servers, text) for text in words)
                result.add("search", kind, wrong=float(wrong))
        result.add("search", kind, p50=load.p50, p99=load.p99, scan=scan)
        run.say(f"  {kind}: p50 {load.p50:.1f}, p99 {load.p99:.1f}, scan {scan:,.1f} ms")

    run.alternate(result, list(KINDS), one, at_most=3)
    for kind in KINDS:
        seen = result.series("search", kind, "p99")
        result.claim("search", f"p99 of {LABELS[kind]}, ms", seen, GOAL_MS, at_least=False)
    wrong = result.series("search", "rare", "wrong")
    result.claim("search", "rare words found otherwise than by the scan", wrong, 0, at_least=False, exact=True)
    return result


def _path(text: str, ordering: str) -> str:
    return f"/api/videos/?{urlencode({'search': text, 'ordering': ordering, 'page_size': PAGE})}"


def _build(run: Run, result: Result, videos: int) -> None:
    servers = run.servers
    OURS.fill(servers, users=10, videos=1)
    servers.sql("DELETE FROM videos_video", database=OURS.database)
    columns = servers.sql(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
        OURS.database, "videos_video",
    )  # fmt: skip
    places = range(TITLE + TEXT + KOREAN)
    ranks = ", ".join(
        f"CAST(FLOOR(EXP(CONV(LEFT(MD5(CONCAT(seq, '.', {place})), 8), 16, 10) / 4294967296 * LN({VOCABULARY}))) "
        f"AS UNSIGNED) AS r{place}" for place in places
    )  # fmt: skip
    words = [_korean(f"r{place}") if place < KOREAN else _latin(f"r{place}") for place in places]
    values = VIDEO | {
        "title": f"CONCAT_WS(' ', {', '.join(words[: TITLE + 1])})",
        "description": f"CONCAT_WS(' ', {', '.join(words[TITLE + 1 :])})",
        "like_count": "r9 % 1000",
    }
    filled = {name: values.get(name, "''" if kind in {"varchar", "longtext"} else "0") for name, kind in columns}
    servers.sql(
        f"INSERT INTO videos_video ({', '.join(filled)}) SELECT {', '.join(filled.values())} "
        f"FROM (SELECT seq, {ranks} FROM seq_1_to_{videos}) n"
    )
    run.say(f"  {videos:,} videos are there")
    began = time.perf_counter()
    call(OURS.manage_command("index_videos"), OURS.environment(servers))
    seconds = time.perf_counter() - began
    servers.sql("OPTIMIZE TABLE videos_videoword")
    servers.sql("ANALYZE TABLE videos_video, videos_videoword")
    ((size,),) = servers.sql(
        "SELECT data_length + index_length FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
        OURS.database, "videos_videoword",
    )  # fmt: skip
    result.add("index", "build", seconds=seconds, mb=float(size) / 2**20)
    run.say(f"  indexed in {seconds:,.0f} s, {size / 2**20:,.0f} MiB")


def _latin(rank: str) -> str:
    text = f"CAST({rank} AS CHAR)"
    for digit, syllable in enumerate(SYLLABLES):
        text = f"REPLACE({text}, '{digit}', '{syllable}')"
    return text


def _korean(rank: str) -> str:
    places = (f"{rank} * 7 + 3", f"{rank} DIV 8", f"{rank} DIV 512")
    return f"CONCAT({', '.join(f'''MID('{HANGUL}', 1 + ({place}) % {len(HANGUL)}, 1)''' for place in places)})"


def _scan(servers: Servers, words: Sequence[str]) -> float:
    """Milliseconds of the search before: the median of a few."""
    took = []
    for text in words[:SCANS]:
        began = time.perf_counter()
        _scanned(servers, text)
        took.append((time.perf_counter() - began) * 1000)
    return sorted(took)[len(took) // 2]


def _scanned(servers: Servers, text: str) -> list[int]:
    patterns = [f"%{word}%" for word in text.split() for _ in range(2)]
    where = " AND ".join(["(title LIKE %s OR description LIKE %s)"] * (len(patterns) // 2))
    rows = servers.sql(
        f"SELECT id FROM videos_video WHERE {where} ORDER BY created_at DESC, id DESC LIMIT {PAGE}", *patterns,
        database=OURS.database,
    )  # fmt: skip
    return [video_id for (video_id,) in rows]


def _found(site: Site, text: str) -> list[int]:
    with urllib.request.urlopen(f"{site.url}{_path(text, '-created_at')}", timeout=9) as answer:  # noqa: S310
        return [video["id"] for video in json.load(answer)["results"]]
