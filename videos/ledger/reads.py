"""What readers are shown of the rows.

The statements stand here by hand: to build one anew for each request takes Django longer than the database takes to
answer it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.db import InterfaceError, OperationalError, connection

from videos.ledger.sql import parts
from videos.models import Video


class VideoRow(NamedTuple):
    """A video as its row has it."""

    id: int
    title: str
    description: str
    url: str
    duration: int  # seconds; 0 where it is not known
    owner_id: int
    created_at: datetime
    like_count: int
    view_count: int

    @classmethod
    def of(cls, video: Video) -> VideoRow:
        """The row of a video that was read or written through Django."""
        return cls(*[getattr(video, name) for name in cls._fields])


# mysqlclient makes times of text in Python, a microsecond each; `fromisoformat` takes a tenth of that.
_COLUMNS: Final = {
    "sqlite": ", ".join(VideoRow._fields),
    "mysql": ", ".join(VideoRow._fields).replace("created_at", "CAST(created_at AS CHAR)"),
}
PATIENCE_SECONDS = 1  # what failed after more than this was not closed while nobody used it: the server is in trouble
ORDERS: Final = frozenset({"created_at", "like_count", "view_count"})


def nearest_videos(*, by: str, falling: bool, beyond: tuple[Any, int] | None, most: int) -> list[VideoRow]:
    """The first videos in the order of (`by`, id), or the first beyond a value and id."""
    if beyond is None:
        return _videos(_nearest(by, falling, begins=False), [most])
    value, tie = beyond
    if isinstance(value, datetime):
        value = connection.ops.adapt_datetimefield_value(value)
    return _videos(_nearest(by, falling, begins=True), [value, value, value, tie, most])


@lru_cache(maxsize=16)
def _nearest(by: str, falling: bool, *, begins: bool) -> str:
    if by not in ORDERS:
        raise ValueError(f"Videos are not ordered by {by}.")
    compare, direction = ("<", "DESC") if falling else (">", "ASC")
    # The first condition lets SQLite walk the index from there on; the second is two ranges of it to MySQL.
    where = f"WHERE {by} {compare}= %s AND ({by} {compare} %s OR ({by} = %s AND id {compare} %s)) " if begins else ""
    order = f"ORDER BY {by} {direction}, id {direction} LIMIT %s"
    return f"FROM videos_video {where}{order}"


def read_videos(video_ids: Iterable[int]) -> dict[int, VideoRow]:
    """Rows by video; absent ones are left out."""
    return {
        row.id: row
        for part in parts(video_ids)
        for row in _videos(f"FROM videos_video WHERE id IN ({_listed(part)})", [])
    }


def _videos(source: str, parameters: Sequence[Any]) -> list[VideoRow]:
    found = _ask(f"SELECT {_COLUMNS[connection.vendor]} {source}", parameters)
    return [
        VideoRow(pk, title, description, url, duration, owner, datetime.fromisoformat(f"{at}+00:00"), likes, views)
        for pk, title, description, url, duration, owner, at, likes, views in found  # what is stored is UTC
    ]


def read_counts(video_ids: Collection[int], user_id: int | None) -> dict[int, tuple[int, int, bool]]:
    """Likes and views in the rows, and whether the user likes them; absent ones are left out."""
    liked, given = "0", []
    if user_id is not None:
        liked = "EXISTS(SELECT 1 FROM videos_videolike l WHERE l.video_id = v.id AND l.user_id = %s)"
        given = [user_id]
    select = f"SELECT v.id, v.like_count, v.view_count, {liked} FROM videos_video v"  # noqa: S608  it stands above
    return {
        video_id: (likes, views, bool(state))
        for part in parts(video_ids)
        for video_id, likes, views, state in _ask(f"{select} WHERE v.id IN ({_listed(part)})", given)
    }


def liked_among(video_ids: Collection[int], user_id: int) -> set[int]:
    """Which of the videos the user likes, as the rows have it."""
    select = "SELECT video_id FROM videos_videolike WHERE user_id = %s"
    return {
        video_id
        for part in parts(video_ids)
        for (video_id,) in _ask(f"{select} AND video_id IN ({_listed(part)})", [user_id])
    }


def _listed(ids: Iterable[int]) -> str:
    # As text of the statement: a driver takes a microsecond for each parameter. int() lets nothing else in.
    return ",".join([str(int(one)) for one in ids])


def _ask(statement: str, parameters: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
    """The rows that a statement finds.

    A connection that was kept may have been closed by the server. Django asks it (a round trip) before its first use in
    a request; here the statement itself is the question, since it may be repeated: it only reads.
    """
    began = time.monotonic()
    connection.health_check_done = True  # type: ignore[attr-defined]
    try:
        return _fetch(statement, parameters)
    except (InterfaceError, OperationalError):
        slow = time.monotonic() - began > PATIENCE_SECONDS
        if slow or connection.connection is None or connection.in_atomic_block or connection.is_usable():
            raise
        connection.close()
    return _fetch(statement, parameters)


def _fetch(statement: str, parameters: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: Sequence[tuple[Any, ...]] = cursor.fetchall()
    return found
