"""What readers are shown of the rows.

The statements are written by hand, because Django takes longer to build one than the database takes to answer it.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from django.db import InterfaceError, OperationalError

from videos.changes import COLUMNS, LIKE, NOTHING, ORDERS, Totals, VideoFacts
from videos.ledger.sql import listed, parts
from videos.ledger.times import from_stored, parse_stored, stored_zone, to_stored
from videos.ledger.writer import connection
from videos.models import Video


class VideoRow(NamedTuple):
    """The row of a video."""

    id: int
    title: str
    description: str
    url: str
    duration: int  # seconds; 0 if unknown
    owner_id: int
    created_at: datetime
    totals: Totals

    def value_of(self, order: str) -> Any:
        """The value by which `order`, one of ORDERS, sorts it."""
        return self.created_at if order == "created_at" else self.totals[COLUMNS.index(order)]

    @classmethod
    def of(cls, video: Video) -> Self:
        """The row of a model instance."""
        row = cls(*[getattr(video, name) for name in cls._fields])
        return row._replace(created_at=from_stored(row.created_at))


class Window(NamedTuple):
    """The part of a list that is read for a page."""

    by: str  # the column that orders the list; ids order equal values
    falling: bool  # largest first
    beyond: tuple[Any, int] | None  # the value and the id after which it begins; None: with the first item
    most: int


TRENDS: Final = ("by_day", "by_week")  # columns of TrendingVideo
# mysqlclient parses times in Python, a microsecond each; `fromisoformat` takes a tenth of that.
_SELECTED: Final = ", ".join((*VideoRow._fields[:-1], *COLUMNS))
_SELECTED_BY: Final = {
    "sqlite": _SELECTED,
    "mysql": _SELECTED.replace("created_at", "CAST(created_at AS CHAR)"),
}
_LISTED_TOTALS: Final = ", ".join(f"v.{column}" for column in COLUMNS)
_FACTS: Final = f"v.owner_id, v.duration, v.flushed_batch, {_LISTED_TOTALS}"
_MARK: Final = "(SELECT l.value FROM videos_videolike l WHERE l.video_id = v.id AND l.user_id = %s)"
STALE_SECONDS: Final = 1  # a stale connection fails faster; a slower failure comes from the server, so do not retry


def nearest_videos(window: Window) -> list[VideoRow]:
    """The videos in a window, which is ordered by one of ORDERS."""
    by, falling, beyond, most = window
    if beyond is None:
        return _videos(_nearest(by, falling, begins=False), [most])
    value, tie = beyond
    if isinstance(value, datetime):
        value = connection.ops.adapt_datetimefield_value(to_stored(value))
    return _videos(_nearest(by, falling, begins=True), [value, value, value, tie, most])


def trending_videos(window: Window) -> list[tuple[int, VideoRow]]:
    """Scores and videos in a window, which is ordered by one of TRENDS."""
    by, falling, beyond, most = window
    if by not in TRENDS:
        raise ValueError(f"Videos do not trend by {by}.")
    compare, direction = ("<", "DESC") if falling else (">", "ASC")
    join = "STRAIGHT_JOIN" if connection.vendor == "mysql" else "CROSS JOIN"  # in the order of the scores
    where = f"WHERE t.{by} {compare}= %s AND (t.{by} {compare} %s OR t.video_id {compare} %s) " if beyond else ""
    source = f"FROM videos_trendingvideo t {join} videos_video v ON v.id = t.video_id {where}"
    order = f"ORDER BY t.{by} {direction}, t.video_id {direction} LIMIT %s"
    given = [beyond[0], *beyond, most] if beyond else [most]
    found = ask(f"SELECT t.{by}, {_SELECTED_BY[connection.vendor]} {source}{order}", given)
    return list(zip((score for score, *_ in found), _rows_of([row[1:] for row in found]), strict=True))


@lru_cache(maxsize=16)
def _nearest(by: str, falling: bool, *, begins: bool) -> str:
    if by not in ORDERS:
        raise ValueError(f"Videos are not ordered by {by}.")
    compare, direction = ("<", "DESC") if falling else (">", "ASC")
    # The first condition lets SQLite start in the index; MySQL reads the second one as two ranges of the index.
    where = f"WHERE {by} {compare}= %s AND ({by} {compare} %s OR ({by} = %s AND id {compare} %s)) " if begins else ""
    order = f"ORDER BY {by} {direction}, id {direction} LIMIT %s"
    return f"FROM videos_video {where}{order}"


def read_videos(video_ids: Iterable[int]) -> dict[int, VideoRow]:
    """Rows by video; absent ones are left out."""
    return {
        row.id: row
        for part in parts(video_ids)
        for row in _videos(f"FROM videos_video WHERE id IN ({listed(part)})", [])
    }


def _videos(source: str, parameters: Sequence[Any]) -> list[VideoRow]:
    return _rows_of(ask(f"SELECT {_SELECTED_BY[connection.vendor]} {source}", parameters))


def _rows_of(found: Iterable[Sequence[Any]]) -> list[VideoRow]:
    zone = stored_zone()
    return [
        VideoRow(pk, title, description, url, duration, owner, parse_stored(str(at), zone), Totals(*totals))
        for pk, title, description, url, duration, owner, at, *totals in found
    ]


def read_counts(video_ids: Collection[int], user_id: int | None) -> dict[int, tuple[Totals, int]]:
    """Totals in the rows, and the value of the user's mark; absent ones are left out."""
    mark, given = ("0", []) if user_id is None else (_MARK, [user_id])
    select = f"SELECT v.id, {mark}, {_LISTED_TOTALS} FROM videos_video v"
    return {
        video_id: (Totals(*totals), state or NOTHING)
        for part in parts(video_ids)
        for video_id, state, *totals in ask(f"{select} WHERE v.id IN ({listed(part)})", given)
    }


def read_facts(video_ids: Iterable[int]) -> dict[int, VideoFacts]:
    """Facts by video; absent videos are left out."""
    return {
        video_id: VideoFacts(Totals(*totals), owner_id, duration, watermark)
        for part in parts(video_ids)
        for video_id, owner_id, duration, watermark, *totals in ask(
            f"SELECT v.id, {_FACTS} FROM videos_video v WHERE v.id IN ({listed(part)})", []
        )
    }


def read_facts_and_state(video_id: int, user_id: int) -> tuple[VideoFacts, int] | None:
    """A video's facts and the value of the user's mark, in one query; None: no such video."""
    found = ask(f"SELECT {_MARK}, {_FACTS} FROM videos_video v WHERE v.id = %s", [user_id, video_id])
    if not found:
        return None
    value, owner_id, duration, watermark, *totals = found[0]
    return VideoFacts(Totals(*totals), owner_id, duration, watermark), value or NOTHING


def marks_among(video_ids: Collection[int], user_id: int) -> dict[int, int]:
    """The values of the user's marks in the rows, by those of the videos that have one."""
    select = "SELECT video_id, value FROM videos_videolike WHERE user_id = %s"
    return {
        video_id: value
        for part in parts(video_ids)
        for video_id, value in ask(f"{select} AND video_id IN ({listed(part)})", [user_id])
    }


def liked_among(video_ids: Collection[int], user_id: int) -> set[int]:
    """Those of the videos that the user likes in the rows."""
    return {video_id for video_id, value in marks_among(video_ids, user_id).items() if value == LIKE}


def likers_among(video_id: int, user_ids: Collection[int]) -> set[int]:
    """Those of the users who like the video in the rows."""
    select = f"SELECT user_id FROM videos_videolike WHERE value = {LIKE} AND video_id = %s"
    return {
        user_id
        for part in parts(user_ids)
        for (user_id,) in ask(f"{select} AND user_id IN ({listed(part)})", [video_id])
    }


def ask(statement: str, parameters: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
    """The rows that a statement finds; the statement is run again if the connection was stale.

    Django checks a kept connection with a round trip before its first use in a request. A statement that only reads
    needs no such check, because it can be repeated on a new connection.
    """
    began = time.monotonic()
    connection.health_check_done = True
    try:
        return _fetch(statement, parameters)
    except (InterfaceError, OperationalError):
        slow = time.monotonic() - began > STALE_SECONDS
        if slow or connection.connection is None or connection.in_atomic_block or connection.is_usable():
            raise
        connection.close()
    return _fetch(statement, parameters)


def _fetch(statement: str, parameters: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return found
