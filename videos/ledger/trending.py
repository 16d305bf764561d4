"""What trends: how many views each video gained lately, of which older ones count less.

A video's score in a window is `sum of gained * 0.5 ** (age / half-life)` over its hour rows. All scores fall at the
same rate as time passes, so their order changes only with new gains. A row (TrendingVideo) therefore holds the score's
logarithm to base 2 as it would be at hour 0 (1970), which never has to be computed again:

    log2(sum of gained * 2 ** (hour / half-life))

in units of 2 ** -32, a whole number, so that pages can go on after an exact position. Gains are added to it, in the
transaction that adds them to the hour rows: log2(2 ** a + 2 ** b) = max(a, b) + log2(1 + 2 ** -abs(a - b)).
"""

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from videos.changes import HOUR_SECONDS, PLACES
from videos.ledger.retry import again
from videos.ledger.sql import listed, parts
from videos.ledger.times import parse_hour
from videos.ledger.writer import atomic, connection

GAINED: Final = PLACES["views"]  # a count that never falls: a sum below zero has no logarithm
# A quarter of the window: gains of that window make 94 % of a score.
HALF_LIVES: Final = {"day": 6, "week": 42}  # hours
UNIT: Final = 2**32
GONE: Final = 30  # a row whose score has fallen below 2 ** -30 views is deleted
RECOMPUTED_VIDEOS: Final = 500  # of one statement

_TABLE: Final = "videos_trendingvideo"
_COLUMNS: Final = [f"by_{window}" for window in HALF_LIVES]
_INSERT: Final = {
    "mysql": f"""
        INSERT INTO {_TABLE} (video_id, {", ".join(_COLUMNS)})
        SELECT d.video, {", ".join(f"d.{column}" for column in _COLUMNS)}
        FROM JSON_TABLE(%s, '$[*]' COLUMNS(video BIGINT PATH '$[0]', {
        ", ".join(f"{column} BIGINT PATH '$[{place}]'" for place, column in enumerate(_COLUMNS, 1))
    })) d""",
    "sqlite": f"""
        INSERT INTO {_TABLE} (video_id, {", ".join(_COLUMNS)})
        SELECT json_extract(value, '$[0]'), {
        ", ".join(f"json_extract(value, '$[{place}]')" for place, _ in enumerate(_COLUMNS, 1))
    } FROM json_each(%s) WHERE true""",
}
_ADD: Final = {
    "mysql": " ON DUPLICATE KEY UPDATE "
    + ", ".join(
        f"{column} = GREATEST({_TABLE}.{column}, d.{column})"
        f" + ROUND({UNIT}e0 * LOG2(1 + POW(2, -ABS({_TABLE}.{column} - d.{column}) / {UNIT}e0)))"
        for column in _COLUMNS
    ),
    "sqlite": " ON CONFLICT (video_id) DO UPDATE SET "
    + ", ".join(
        f"{column} = max({column}, excluded.{column}) + CAST(round("
        f"{UNIT / math.log(2)} * ln(1 + power(2, -abs({column} - excluded.{column}) / {UNIT}.0))) AS INTEGER)"
        for column in _COLUMNS
    ),
}


def score(gains: Iterable[tuple[int, int]], half_life: int) -> int:
    """The score of gains, each with its hour since 1970, as rows hold it. There must be one above zero."""
    known = [(hour, gained) for hour, gained in gains if gained > 0]
    newest = max(hour for hour, _ in known)
    total = sum(gained * 0.5 ** ((newest - hour) / half_life) for hour, gained in known)
    return round(UNIT * (math.log2(total) + newest / half_life))


def add_trends(hours: Mapping[tuple[int, int], Sequence[int]]) -> None:
    """Add gains, in the order of COUNTS, by video and hour, to the scores. Call it in the transaction of the hours."""
    _write(hours, _INSERT[connection.vendor] + _ADD[connection.vendor])


def _write(hours: Mapping[tuple[int, int], Sequence[int]], statement: str) -> None:
    gains: dict[int, list[tuple[int, int]]] = {}
    for (video_id, hour), gain in hours.items():
        if gain[GAINED] > 0:
            gains.setdefault(video_id, []).append((hour, gain[GAINED]))
    rows = sorted(
        (video_id, *(score(known, life) for life in HALF_LIVES.values())) for video_id, known in gains.items()
    )
    for part in parts(rows):
        _execute(statement, [json.dumps(part)])


def recompute_trends(video_ids: Collection[int]) -> None:
    """Compute scores from the hour rows. Call it in the transaction that changed these, under the videos' locks."""
    name = "CAST(hour AS CHAR)" if connection.vendor == "mysql" else "hour"
    for part in parts(sorted(video_ids), RECOMPUTED_VIDEOS):
        ids = listed(part)
        _execute(f"DELETE FROM {_TABLE} WHERE video_id IN ({ids})", [])
        statement = f"SELECT video_id, {name}, views FROM videos_videohour WHERE video_id IN ({ids}) AND views > 0"
        gains: dict[tuple[int, int], list[int]] = {}
        for video_id, hour, views in _execute(statement, []):
            gain = [0] * (GAINED + 1)
            gain[GAINED] = views
            gains[video_id, parse_hour(str(hour))] = gain
        _write(gains, _INSERT[connection.vendor])  # whoever migrates need not have the privilege UPDATE


def recompute_all_trends() -> Iterator[int]:
    """Compute the scores of all videos, part by part; yields how many videos each part had when it is committed."""
    after = 0
    while found := _execute(
        f"SELECT id FROM videos_video WHERE id > %s ORDER BY id LIMIT {RECOMPUTED_VIDEOS}", [after]
    ):
        video_ids = [video_id for (video_id,) in found]
        after = video_ids[-1]
        again(partial(_recompute_under_locks, video_ids))
        yield len(video_ids)


def _recompute_under_locks(video_ids: Sequence[int]) -> None:
    lock = "FOR UPDATE" if connection.features.has_select_for_update else ""
    with atomic(durable=True):
        # The ids alone: a migration does this before the columns of later counts exist.
        _execute(f"SELECT id FROM videos_video WHERE id IN ({listed(video_ids)}) ORDER BY id {lock}", [])
        recompute_trends(video_ids)


def forget_trends(now_seconds: float) -> None:
    """Delete scores that have fallen to nothing; some of them, the next run goes on."""
    least = round(UNIT * (now_seconds / HOUR_SECONDS / HALF_LIVES["week"] - GONE))
    found = _execute(f"SELECT video_id FROM {_TABLE} WHERE by_week < %s LIMIT 5000", [least])
    if found:  # the flush may add to one meanwhile
        ids = listed(video_id for (video_id,) in found)
        _execute(f"DELETE FROM {_TABLE} WHERE video_id IN ({ids}) AND by_week < %s", [least])


def _execute(statement: str, parameters: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else ()
