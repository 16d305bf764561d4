"""Search: the videos that have all of some words, in the order of a list.

The words of a video are rows (VideoWord). A rare word leads to its few videos. A page of videos with common words is
found faster in the list itself, unless few videos have all of them. So the steps are:

1. Count the rows of each word, up to FEW. If a word is rare, go to step 4.
2. Walk down the list over SAMPLE videos, and keep those that have all words. Often this fills the page.
3. If the sample was promising, walk on, over at most LONG videos.
4. Read the videos of the rarest word. While they are many, read those of the next word, and keep the videos that both
   have. Look up the other words of those that remain, and sort these.
"""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from django.db import OperationalError

from videos.changes import ORDERS, VideosError
from videos.conf import conf
from videos.ledger.reads import VideoRow, Window, read_videos
from videos.ledger.times import to_stored
from videos.ledger.writer import connection
from videos.models import Video
from videos.words import Word

FEW: Final = 5_000  # rows of a word, up to which it is rare
SAMPLE: Final = 1_000
LONG: Final = 20_000
MANY: Final = 50_000  # rows of a word, from which on it is looked up in more than FEW videos rather than read
MOST: Final = 200_000  # rows of a word that are held in memory; a word that has more is looked up
TIMED_OUT: Final = frozenset({1969, 3024})  # error numbers of MariaDB and of MySQL
SQLITE_STEPS: Final = 10_000  # of SQLite's machine, between two looks at the clock
# The database keeps to the order of these joins.
_GIVEN: Final = {
    "mysql": "JSON_TABLE(%s, '$[*]' COLUMNS(id BIGINT PATH '$')) given STRAIGHT_JOIN",
    "sqlite": "(SELECT value AS id FROM json_each(%s)) given CROSS JOIN",
}
_INDEXES: Final = {str(index.fields[0]): index.name for index in Video._meta.indexes}


Place = tuple[Any, int]  # in the list: the value that orders it, and an id


class SearchTimeout(VideosError):
    """The search took longer than VIDEOS_SEARCH_SECONDS."""


def search_videos(words: Sequence[Word], window: Window) -> list[VideoRow]:
    """The videos in a window of those that have every word. Raises SearchTimeout."""
    if window.by not in ORDERS:
        raise ValueError(f"Videos are not ordered by {window.by}.")
    with _Search(words, window) as search:
        ids = search.ids() if words else []
    found = read_videos(ids)
    return [found[video_id] for video_id in ids if video_id in found]


class _Search:
    """One search, and the time that it has left."""

    def __init__(self, words: Sequence[Word], window: Window) -> None:
        self.words = words
        self.by, self.falling, self.beyond, self.most = window
        self.direction = "DESC" if self.falling else "ASC"
        self.mysql = connection.vendor == "mysql"

    def __enter__(self) -> Self:
        connection.ensure_connection()
        self.deadline = time.monotonic() + conf.SEARCH_SECONDS
        if not self.mysql:
            connection.connection.set_progress_handler(lambda: time.monotonic() > self.deadline, SQLITE_STEPS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.mysql:
            connection.connection.set_progress_handler(None, 0)
        if isinstance(error, OperationalError) and (error.args[0] in TIMED_OUT or error.args[0] == "interrupted"):
            raise SearchTimeout from error

    def ids(self) -> list[int]:
        """The ids of the page."""
        counted = self._count(FEW)
        if min(counted) == FEW:
            found, end = self._walk(SAMPLE, self.beyond, self.most)
            if end is not None and len(found) * LONG >= self.most * SAMPLE:
                more, end = self._walk(LONG, end, self.most - len(found))
                found += more
            if end is None:
                return found
            counted = self._count(MANY)
        return self._meet(counted)

    def _count(self, most: int) -> list[int]:
        """The number of rows of each word, at most `most`."""
        counts, given = [], []
        for word in self.words:
            condition, texts = _is(word, "w")
            limited = f"SELECT 1 FROM videos_videoword w WHERE {condition} LIMIT {most}"
            counts.append(f"(SELECT COUNT(*) FROM ({limited}) counted)")
            given += texts
        return list(self._ask(f"SELECT {', '.join(counts)}", given)[0])

    def _meet(self, counted: Sequence[int]) -> list[int]:
        """The page, by way of the videos of the rarest words."""
        ordered = sorted(zip(counted, self.words, strict=True))
        videos = self._videos_of(ordered.pop(0)[1])
        if videos is None:
            return self._walk(None, self.beyond, self.most)[0]
        while ordered and len(videos) > (FEW if ordered[0][0] < MANY else 3 * FEW):
            others = self._videos_of(ordered[0][1])
            if others is None:
                break
            videos &= others
            del ordered[0]
        if not videos:
            return []
        have, texts = _have([word for _, word in ordered], "v.id")
        beyond, after = self._after(self.beyond)
        source = f"FROM {_GIVEN[connection.vendor]} videos_video v ON v.id = given.id WHERE 1 = 1{have}{beyond}"
        return self._listed(source, [json.dumps(sorted(videos)), *texts, *after], self.most)

    def _videos_of(self, word: Word) -> set[int] | None:
        """The videos that have a word; None for more than MOST rows."""
        condition, texts = _is(word, "w")
        rows = self._ask(f"SELECT w.video_id FROM videos_videoword w WHERE {condition} LIMIT {MOST + 1}", texts)
        return {video_id for (video_id,) in rows} if len(rows) <= MOST else None

    def _walk(self, videos: int | None, begin: Place | None, most: int) -> tuple[list[int], Place | None]:
        """What is found among the next `videos` of the list, and where that ended; None: there is no more to find."""
        beyond, after = self._after(begin)
        source = f"FROM videos_video v{f' FORCE INDEX ({_INDEXES[self.by]})' if self.mysql else ''} WHERE 1 = 1{beyond}"
        order = f"ORDER BY v.{self.by} {self.direction}, v.id {self.direction}"
        ends = videos and self._ask(f"SELECT v.{self.by}, v.id {source} {order} LIMIT 1 OFFSET {videos - 1}", after)
        until, last = self._part(">" if self.falling else "<", ends[0][0], ends[0][1], "=") if ends else ("", [])
        have, texts = _have(self.words, "v.id")
        found = self._listed(f"{source}{until}{have}", [*after, *last, *texts], most)
        return found, ends[0] if ends and len(found) < most else None

    def _after(self, begin: Place | None) -> tuple[str, list[Any]]:
        return self._part("<" if self.falling else ">", *begin) if begin else ("", [])

    def _part(self, compare: str, value: Any, tie: int, itself: str = "") -> tuple[str, list[Any]]:
        """The condition that a video stands on one side of a place in the list, or there `itself`."""
        by = f"v.{self.by}"
        # The first condition lets SQLite start in the index; MySQL reads the second one as two ranges of the index.
        if isinstance(value, datetime):
            value = connection.ops.adapt_datetimefield_value(to_stored(value) if value.tzinfo else value)
        text = f" AND {by} {compare}= %s AND ({by} {compare} %s OR ({by} = %s AND v.id {compare}{itself} %s))"
        return text, [value, value, value, tie]

    def _listed(self, source: str, given: Sequence[Any], most: int) -> list[int]:
        order = f"ORDER BY v.{self.by} {self.direction}, v.id {self.direction} LIMIT {most}"
        return [video_id for (video_id,) in self._ask(f"SELECT v.id {source} {order}", given)]

    def _ask(self, statement: str, given: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
        seconds = max(0.001, self.deadline - time.monotonic())
        if self.mysql and connection.mysql_is_mariadb:
            statement = f"SET STATEMENT max_statement_time = {seconds:.3f} FOR {statement}"
        elif self.mysql:
            statement = statement.replace("SELECT", f"SELECT /*+ MAX_EXECUTION_TIME({int(seconds * 1000)}) */", 1)
        with connection.cursor() as cursor:
            cursor.execute(statement, given)
            rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _is(word: Word, row: str) -> tuple[str, list[str]]:
    """The condition that a row of words is this word, and its parameters."""
    if word.beginning:
        return f"{row}.word >= %s AND {row}.word < %s", [word.text, word.end]
    return f"{row}.word = %s", [word.text]


def _have(words: Sequence[Word], video: str) -> tuple[str, list[str]]:
    """The conditions that a video has these words, and their parameters.

    No EXISTS: MySQL and MariaDB may turn that into a JOIN which begins with all videos of a word.
    """
    text, given = "", []
    for word in words:
        condition, texts = _is(word, "h")
        text += (
            f" AND (SELECT 1 FROM videos_videoword h WHERE h.video_id = {video} AND {condition} LIMIT 1) IS NOT NULL"
        )
        given += texts
    return text, given
