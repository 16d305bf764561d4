"""Statements of many rows each, as one JSON parameter: one text for MySQL and MariaDB, one for SQLite.

Chosen for what both MySQL 8 and MariaDB 10.6 take: `JSON_TABLE` joined in UPDATE and INSERT … SELECT … ON DUPLICATE KEY
UPDATE. `VALUES ROW()`, `AS new`, `FOR SHARE` and `INSERT … RETURNING` each fail on one of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from django.contrib.auth import get_user_model
from django.db import connection

from videos.models import VideoLike

STATEMENT_ROWS: Final = 5000  # rows of one statement: keeps a packet far below max_allowed_packet
HOUR_SECONDS: Final = 3600

T = TypeVar("T")

_MYSQL: Final = {
    "existing_likes": """
        SELECT l.id, l.video_id, l.user_id
        FROM JSON_TABLE(%s, '$[*]' COLUMNS(video BIGINT PATH '$[0]', user BIGINT PATH '$[1]')) d
        STRAIGHT_JOIN videos_videolike l ON l.video_id = d.video AND l.user_id = d.user""",
    "existing_users": """
        SELECT u.{user_pk} FROM JSON_TABLE(%s, '$[*]' COLUMNS(id BIGINT PATH '$')) d
        STRAIGHT_JOIN {user_table} u ON u.{user_pk} = d.id""",
    "insert_likes": """
        INSERT INTO videos_videolike (video_id, user_id, created_at)
        SELECT d.video, d.user, d.at FROM JSON_TABLE(%s, '$[*]' COLUMNS(
            video BIGINT PATH '$[0]', user BIGINT PATH '$[1]', at DATETIME(6) PATH '$[2]')) d""",
    "add_counts": """
        UPDATE videos_video v JOIN JSON_TABLE(%s, '$[*]' COLUMNS(
            id BIGINT PATH '$[0]', likes BIGINT PATH '$[1]', views BIGINT PATH '$[2]')) d ON v.id = d.id
        SET v.like_count = v.like_count + d.likes, v.view_count = v.view_count + d.views{watermark}""",
    "watermark": ", v.flushed_batch = %s WHERE v.flushed_batch < %s",
    "add_hours": """
        INSERT INTO videos_videohour (video_id, hour, likes, views)
        SELECT d.video, d.hour, d.likes, d.views FROM JSON_TABLE(%s, '$[*]' COLUMNS(
            video BIGINT PATH '$[0]', hour DATETIME(6) PATH '$[1]',
            likes BIGINT PATH '$[2]', views BIGINT PATH '$[3]')) d
        ON DUPLICATE KEY UPDATE likes = videos_videohour.likes + d.likes, views = videos_videohour.views + d.views""",
}
_SQLITE: Final = {
    "existing_likes": """
        SELECT l.id, l.video_id, l.user_id FROM json_each(%s) d CROSS JOIN videos_videolike l
        ON l.video_id = json_extract(d.value, '$[0]') AND l.user_id = json_extract(d.value, '$[1]')""",
    "existing_users": """
        SELECT u.{user_pk} FROM json_each(%s) d CROSS JOIN {user_table} u ON u.{user_pk} = d.value""",
    "insert_likes": """
        INSERT INTO videos_videolike (video_id, user_id, created_at)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
        FROM json_each(%s)""",
    "add_counts": """
        UPDATE videos_video SET like_count = like_count + d.likes, view_count = view_count + d.views{watermark_set}
        FROM (SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS likes,
            json_extract(value, '$[2]') AS views FROM json_each(%s)) d
        WHERE videos_video.id = d.id{watermark}""",
    "watermark": " AND flushed_batch < %s",
    "add_hours": """
        INSERT INTO videos_videohour (video_id, hour, likes, views)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
            json_extract(value, '$[3]') FROM json_each(%s) WHERE true
        ON CONFLICT (video_id, hour) DO UPDATE SET likes = likes + excluded.likes, views = views + excluded.views""",
}


def parts(items: Iterable[T], size: int = STATEMENT_ROWS) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


class Sums(NamedTuple):
    """What a transaction changed."""

    videos: int = 0
    likes_added: int = 0
    likes_removed: int = 0
    views: int = 0


class Locked(NamedTuple):
    """The counts and the watermark in a row of a video."""

    id: int
    like_count: int
    view_count: int
    flushed_batch: int


def lock_videos(video_ids: Iterable[int]) -> dict[int, Locked]:
    """Lock rows of videos in the order of their ids, until the transaction ends; absent ones are left out."""
    lock = "FOR UPDATE" if connection.features.has_select_for_update else ""
    found = {}
    for part in parts(sorted(video_ids)):
        ids = ",".join(
            str(int(video_id)) for video_id in part
        )  # as they are: parameters would each be quoted by the driver
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, like_count, view_count, flushed_batch FROM videos_video "  # noqa: S608
                f"WHERE id IN ({ids}) ORDER BY id {lock}"
            )
            for row in cursor.fetchall():
                found[row[0]] = Locked(*row)
    return found


def existing_likes(pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Ids of the like rows of these (video, user)."""
    return {
        (video_id, user_id): pk for part in parts(pairs) for pk, video_id, user_id in _select("existing_likes", part)
    }


def existing_users(users: Iterable[int]) -> set[int]:
    """Which of the users exist.

    At READ UNCOMMITTED one whose deletion may yet be rolled back looks gone; asking with a lock waits for its end.
    """
    wanted = set(users)
    found = {pk for part in parts(wanted) for (pk,) in _select("existing_users", part)}
    absent = wanted - found
    if absent and connection.features.has_select_for_update:
        asked = get_user_model()._base_manager.select_for_update()  # MySQL locks nothing that JSON_TABLE is joined to
        for part in parts(sorted(absent)):
            found |= set(asked.filter(pk__in=part).values_list("pk", flat=True))
    return found


def insert_likes(rows: Iterable[tuple[int, int, int]]) -> None:
    """Add like rows of (video, user, Unix milliseconds)."""
    for part in parts(rows):
        _write("insert_likes", [(video_id, user_id, _moment_text(at_ms)) for video_id, user_id, at_ms in part])


def delete_likes(ids: Iterable[int]) -> None:
    """Delete like rows by id."""
    for part in parts(ids):
        VideoLike.objects.filter(id__in=part)._raw_delete(connection.alias)


def add_counts(gains: Mapping[int, Sequence[int]], number: int | None) -> None:
    """Add (likes, views) to the counts of videos; in batch `number`, only where the watermark is below it."""
    texts = _texts()
    mysql = connection.vendor == "mysql"
    text = texts["add_counts"].format(
        watermark="" if number is None else texts["watermark"],
        watermark_set="" if number is None else ", flushed_batch = %s",
    )
    for part in parts(sorted((video_id, likes, views) for video_id, (likes, views) in gains.items())):
        rows = json.dumps(part)
        marks = [] if number is None else [number]
        with connection.cursor() as cursor:
            cursor.execute(text, [rows, *marks, *marks] if mysql else [*marks, rows, *marks])
            if cursor.rowcount != len(part):
                raise AssertionError(f"{cursor.rowcount} rows changed, of {len(part)} that are locked")


def add_hours(gains: Mapping[tuple[int, int], Sequence[int]]) -> None:
    """Add (net likes, views) to the hours, by (video, hours since 1970)."""
    rows = sorted((video_id, hour, *gain) for (video_id, hour), gain in gains.items() if any(gain))
    for part in parts(rows):
        _write("add_hours", [(video_id, _second_text(hour * HOUR_SECONDS), *gain) for video_id, hour, *gain in part])


def add_sums(shard: int, number: int, sums: Sums) -> None:
    """Add what a transaction changed to the sums of its batch."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE videos_flushbatch SET videos = videos + %s, likes_added = likes_added + %s, "
            "likes_removed = likes_removed + %s, views = views + %s WHERE shard = %s AND number = %s",
            [*sums, shard, number],
        )


def has_like_notes() -> bool:
    """Whether likes were written outside a batch, and are not settled."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS(SELECT 1 FROM videos_stalelive WHERE user IS NOT NULL)")
        return bool(cursor.fetchone()[0])


def _texts() -> Mapping[str, str]:
    return _MYSQL if connection.vendor == "mysql" else _SQLITE


def _select(name: str, rows: Sequence[Any]) -> list[tuple[int, ...]]:
    meta = get_user_model()._meta
    text = _texts()[name].format(user_table=meta.db_table, user_pk=meta.pk.column)
    with connection.cursor() as cursor:
        cursor.execute(text, [json.dumps(rows)])
        return list(cursor.fetchall())


def _write(name: str, rows: Sequence[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_texts()[name], [json.dumps(rows)])


@lru_cache(maxsize=4096)
def _second_text(unix_seconds: int) -> str:
    """A second as Django stores it on this database: both are of the form 2026-01-31 12:00:00."""
    return str(connection.ops.adapt_datetimefield_value(datetime.fromtimestamp(unix_seconds, UTC)))


def _moment_text(unix_ms: int) -> str:
    seconds, ms = divmod(unix_ms, 1000)
    return f"{_second_text(seconds)}.{ms:03}000" if ms else _second_text(seconds)
