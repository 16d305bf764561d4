"""Statements of many rows each, given as one JSON parameter: one text for MySQL and MariaDB, one for SQLite.

MySQL 8 and MariaDB 10.6 both accept `JSON_TABLE` joined in UPDATE and in INSERT … SELECT … ON DUPLICATE KEY UPDATE.
`VALUES ROW()`, `AS new`, `FOR SHARE` and `INSERT … RETURNING` each fail on one of them: docs/adr/0006.

Over 250 lines: each statement stands beside its twin for the other databases.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from django.contrib.auth import get_user_model

from videos.changes import COLUMNS, COUNTS, NOTHING, SUM_COLUMNS, Totals
from videos.ledger.times import hour_text, moment_text, stored_zone
from videos.ledger.writer import connection

STATEMENT_ROWS: Final = 5000  # of one statement, so that its packet stays far below max_allowed_packet

T = TypeVar("T")

# The parts of the statements that name the counts. The table d holds the gains.
_NAMES: Final = [count.name for count in COUNTS]
_LISTED_NAMES: Final = ", ".join(_NAMES)
_LISTED_COLUMNS: Final = ", ".join(COLUMNS)
_GAINS: Final = ", ".join(f"d.{name}" for name in _NAMES)
_MORE_OF_EXCLUDED: Final = ", ".join(f"{name} = {name} + excluded.{name}" for name in _NAMES)


def _json_columns(first: int) -> str:
    return ", ".join(f"{name} BIGINT PATH '$[{first + place}]'" for place, name in enumerate(_NAMES))


def _json_values(first: int, *, named: bool = False) -> str:
    return ", ".join(
        f"json_extract(value, '$[{first + place}]'){f' AS {name}' if named else ''}"
        for place, name in enumerate(_NAMES)
    )


MYSQL: Final = {
    "existing_likes": """
        SELECT l.id, l.video_id, l.user_id, l.value
        FROM JSON_TABLE(%s, '$[*]' COLUMNS(video BIGINT PATH '$[0]', user BIGINT PATH '$[1]')) d
        STRAIGHT_JOIN videos_videolike l ON l.video_id = d.video AND l.user_id = d.user""",
    "existing_users": """
        SELECT u.{user_pk} FROM JSON_TABLE(%s, '$[*]' COLUMNS(id BIGINT PATH '$')) d
        STRAIGHT_JOIN {user_table} u ON u.{user_pk} = d.id""",
    "insert_likes": """
        INSERT INTO videos_videolike (video_id, user_id, value, created_at)
        SELECT d.video, d.user, d.value, d.at FROM JSON_TABLE(%s, '$[*]' COLUMNS(video BIGINT PATH '$[0]',
            user BIGINT PATH '$[1]', value SMALLINT PATH '$[2]', at DATETIME(6) PATH '$[3]')) d""",
    # By the primary key: a scan of a small table locks all of its rows, and another shard's flush leaves these out.
    "add_counts": f"""
        UPDATE JSON_TABLE(%s, '$[*]' COLUMNS(id BIGINT PATH '$[0]', {_json_columns(1)})) d
        STRAIGHT_JOIN videos_video v FORCE INDEX (PRIMARY) ON v.id = d.id
        SET {", ".join(f"v.{count.column} = v.{count.column} + d.{count.name}" for count in COUNTS)}{{watermark}}""",
    "watermark": ", v.flushed_batch = %s WHERE v.flushed_batch < %s",
    "add_hours": f"""
        INSERT INTO videos_videohour (video_id, hour, {_LISTED_NAMES})
        SELECT d.video, d.hour, {_GAINS} FROM JSON_TABLE(%s, '$[*]' COLUMNS(
            video BIGINT PATH '$[0]', hour DATETIME(6) PATH '$[1]', {_json_columns(2)})) d
        ON DUPLICATE KEY UPDATE {", ".join(f"{name} = videos_videohour.{name} + d.{name}" for name in _NAMES)}""",
}
SQLITE: Final = {
    "existing_likes": """
        SELECT l.id, l.video_id, l.user_id, l.value FROM json_each(%s) d CROSS JOIN videos_videolike l
        ON l.video_id = json_extract(d.value, '$[0]') AND l.user_id = json_extract(d.value, '$[1]')""",
    "existing_users": """
        SELECT u.{user_pk} FROM json_each(%s) d CROSS JOIN {user_table} u ON u.{user_pk} = d.value""",
    "insert_likes": """
        INSERT INTO videos_videolike (video_id, user_id, value, created_at)
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
            json_extract(value, '$[3]') FROM json_each(%s)""",
    "add_counts": f"""
        UPDATE videos_video
        SET {", ".join(f"{count.column} = {count.column} + d.{count.name}" for count in COUNTS)}{{watermark_set}}
        FROM (SELECT json_extract(value, '$[0]') AS id, {_json_values(1, named=True)} FROM json_each(%s)) d
        WHERE videos_video.id = d.id{{watermark}}""",
    "watermark": " AND flushed_batch < %s",
    "add_hours": f"""
        INSERT INTO videos_videohour (video_id, hour, {_LISTED_NAMES})
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), {_json_values(2)} FROM json_each(%s) WHERE true
        ON CONFLICT (video_id, hour) DO UPDATE SET {_MORE_OF_EXCLUDED}""",
}
_ADD_SUMS: Final = (
    f"UPDATE videos_flushbatch SET {', '.join(f'{name} = {name} + %s' for name in ('taken', *SUM_COLUMNS))} "
    "WHERE shard = %s AND number = %s"
)


def parts(items: Iterable[T], size: int = STATEMENT_ROWS) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


class LikeRow(NamedTuple):
    """A like row, also of a dislike."""

    id: int
    value: int  # of the mark


UNMARKED: Final = LikeRow(0, NOTHING)  # there is no row


class LockedRow(NamedTuple):
    """What a writer needs of a locked row of a video."""

    id: int
    flushed_batch: int  # the watermark
    totals: Totals


def listed(ids: Iterable[int]) -> str:
    """Ids as text of a statement, because a driver takes a microsecond for each parameter. int() rejects all else."""
    return ",".join([str(int(one)) for one in ids])


def lock_videos(video_ids: Iterable[int]) -> dict[int, LockedRow]:
    """Lock rows of videos in the order of their ids, until the transaction ends; absent ones are left out."""
    return _video_rows(video_ids, _lock())


def lock_free_videos(video_ids: Iterable[int]) -> tuple[dict[int, LockedRow], dict[int, int]]:
    """Lock those rows of videos that no other transaction has locked. Also returns the watermarks of the others.

    A row that is neither free nor visible may be in a deletion that is not committed yet: wait for its end.
    """
    wanted = set(video_ids)
    if not connection.features.has_select_for_update_skip_locked:  # SQLite lets one transaction write at a time
        return lock_videos(wanted), {}
    rows = _video_rows(wanted, "FOR UPDATE SKIP LOCKED")
    held = watermarks(wanted - rows.keys())
    return rows | lock_videos(wanted - rows.keys() - held.keys()), held


def watermarks(video_ids: Iterable[int]) -> dict[int, int]:
    """The watermarks of videos, read without a lock; absent ones are left out."""
    return {row.id: row.flushed_batch for row in _video_rows(video_ids, "").values()}


def _video_rows(video_ids: Iterable[int], lock: str) -> dict[int, LockedRow]:
    statement = f"SELECT id, flushed_batch, {_LISTED_COLUMNS} FROM videos_video WHERE id IN ({{}}) ORDER BY id {lock}"
    return {
        row[0]: LockedRow(row[0], row[1], Totals(*row[2:]))
        for part in parts(sorted(video_ids))
        for row in _rows(statement.format(listed(part)))
    }


def lock_users(user_ids: Iterable[int]) -> set[int]:
    """Lock rows of users until the transaction ends; return those that exist."""
    statement = f"SELECT {{user_pk}} FROM {{user_table}} WHERE {{user_pk}} IN ({{}}) {_lock()}"
    return {pk for part in parts(sorted(user_ids)) for (pk,) in _rows(statement.format(listed(part), **_user_names()))}


def _lock() -> str:
    return "FOR UPDATE" if connection.features.has_select_for_update else ""


def existing_likes(pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], LikeRow]:
    """The like rows of these (video, user)."""
    return {
        (video_id, user_id): LikeRow(pk, value)
        for part in parts(pairs)
        for pk, video_id, user_id, value in _select("existing_likes", part)
    }


def lock_likes(pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], LikeRow]:
    """`existing_likes` as they are now, also in a transaction that reads from an older snapshot."""
    statement = "SELECT id, video_id, user_id, value FROM videos_videolike WHERE video_id = {} AND user_id IN ({})"
    by_video: dict[int, list[int]] = {}
    for video_id, user_id in sorted(pairs):
        by_video.setdefault(video_id, []).append(user_id)
    return {
        (found_id, user_id): LikeRow(pk, value)
        for video_id, user_ids in by_video.items()
        for part in parts(user_ids)
        for pk, found_id, user_id, value in _rows(f"{statement.format(int(video_id), listed(part))} {_lock()}")
    }


def count_marks(video_id: int, value: int) -> int:
    """The number of like rows of a video that have this value, which is what the mark's count should be."""
    statement = "SELECT COUNT(*) FROM videos_videolike WHERE video_id = %s AND value = %s"
    return int(_rows(statement, [video_id, value])[0][0])


def existing_users(user_ids: Collection[int]) -> set[int]:
    """Which of the users exist.

    At READ UNCOMMITTED a user whose deletion may still be rolled back looks deleted. Reading those users again with a
    lock waits for the end of that transaction.
    """
    wanted = set(user_ids)
    found = {pk for part in parts(wanted) for (pk,) in _select("existing_users", part)}
    # MySQL refuses a locking read that joins JSON_TABLE (error 3569), so this is a statement of its own.
    return found | lock_users(wanted - found) if connection.features.has_select_for_update else found


def insert_likes(rows: Iterable[tuple[int, int, int, int]]) -> None:
    """Add like rows of (video, user, value, Unix milliseconds)."""
    zone = stored_zone()
    for part in parts(rows):
        _write("insert_likes", [(*row, moment_text(at_ms, zone)) for *row, at_ms in part])


def delete_likes(ids: Iterable[int]) -> None:
    """Delete like rows by id."""
    _delete("videos_videolike", ids)


def delete_notes(ids: Iterable[int]) -> None:
    """Delete notes by id."""
    _delete("videos_stalelive", ids)


def add_counts(gains: Mapping[int, Sequence[int]], number: int | None) -> None:
    """Add gains, in the order of COUNTS, to videos; for batch `number`, only if the watermark is below it."""
    texts = _texts()
    mysql = connection.vendor == "mysql"
    text = texts["add_counts"].format(
        watermark="" if number is None else texts["watermark"],
        watermark_set="" if number is None else ", flushed_batch = %s",
    )
    for part in parts(sorted((video_id, *gain) for video_id, gain in gains.items())):
        rows = json.dumps(part)
        marks = [] if number is None else [number]
        with connection.cursor() as cursor:
            cursor.execute(text, [rows, *marks, *marks] if mysql else [*marks, rows, *marks])
            if cursor.rowcount != len(part):
                raise AssertionError(f"{cursor.rowcount} rows changed, of {len(part)} that are locked")


def add_hours(gains: Mapping[tuple[int, int], Sequence[int]]) -> None:
    """Add gains, in the order of COUNTS, to the hours, by video and hour since 1970."""
    rows = sorted((video_id, hour, *gain) for (video_id, hour), gain in gains.items() if any(gain))
    for part in parts(rows):
        _write("add_hours", [(video_id, hour_text(hour), *gain) for video_id, hour, *gain in part])


def add_sums(shard: int, number: int, taken: int, sums: Mapping[str, int]) -> None:
    """Add the fields that a transaction took in, and what it changed, to the sums of its batch."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD_SUMS, [taken, *(sums[name] for name in SUM_COLUMNS), shard, number])


def has_like_notes() -> bool:
    """Whether there are notes of likes, which were written outside a batch."""
    return bool(_rows("SELECT EXISTS(SELECT 1 FROM videos_stalelive WHERE user IS NOT NULL)")[0][0])


def _texts() -> Mapping[str, str]:
    return MYSQL if connection.vendor == "mysql" else SQLITE


def _user_names() -> dict[str, str]:
    meta = get_user_model()._meta
    return {"user_table": meta.db_table, "user_pk": str(meta.pk.column)}


def _rows(statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def _select(name: str, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    return _rows(_texts()[name].format(**_user_names()), [json.dumps(rows)])


def _write(name: str, rows: Sequence[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_texts()[name], [json.dumps(rows)])


def _delete(table: str, ids: Iterable[int]) -> None:
    for part in parts(ids):
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table} WHERE id IN ({listed(part)})")
