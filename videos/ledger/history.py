"""The history of counts: what each video, and all of them, gained in each hour (UTC).

Hours of a video that are older than VIDEOS_HOURS_DAYS are merged into the first hour of their day (UTC).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from django.db.models import Count

from videos.changes import COUNTS, DAY_SECONDS, HOUR_SECONDS, zeros
from videos.conf import conf
from videos.ledger import sql
from videos.ledger.reads import ask
from videos.ledger.sql import STATEMENT_ROWS
from videos.ledger.times import hour_text, parse_hour
from videos.ledger.trending import add_trends, recompute_trends
from videos.ledger.writer import atomic, connection, rows
from videos.models import SiteHour, VideoHour

HourGains: TypeAlias = dict[tuple[int, int], list[int]]  # by video and hour since 1970, in the order of COUNTS

LOOSE_HOURS: Final = 100  # of which one call merges rows
DAY_HOURS: Final = DAY_SECONDS // HOUR_SECONDS
_NAMES: Final = [count.name for count in COUNTS]


class VideoHistory(NamedTuple):
    """What the rows know of a video's history."""

    watermark: int  # the newest batch that it contains
    hours: Mapping[int, Sequence[int]]  # hour since 1970 -> gains, in the order of COUNTS


def add_gains(hours: HourGains) -> None:
    """Add gains to the hours of videos and of the site, and to what trends, in the transaction of the counts."""
    sql.add_hours(hours)
    add_trends(hours)
    site: dict[int, list[int]] = defaultdict(zeros)
    for (_, hour), gain in hours.items():
        site[hour] = [*map(sum, zip(site[hour], gain, strict=True))]
    given = [(hour_text(hour), *gain) for hour, gain in sorted(site.items()) if any(gain)]
    if given:
        places = f"({', '.join(['%s'] * (1 + len(COUNTS)))})"
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO videos_sitehour (hour, {', '.join(_NAMES)}) VALUES {', '.join([places] * len(given))}",
                [value for row in given for value in row],
            )


def read_video_history(video_id: int, begin: int, end: int) -> VideoHistory | None:
    """The gains of a video from hour `begin` to before hour `end`; None: no such video. One statement, so one state."""
    found = ask(
        f"SELECT v.flushed_batch, {_hour('h')}, {_gains('h')} FROM videos_video v LEFT JOIN videos_videohour h "
        "ON h.video_id = v.id AND h.hour >= %s AND h.hour < %s WHERE v.id = %s",
        [hour_text(begin), hour_text(end), video_id],
    )
    if not found:
        return None
    return VideoHistory(found[0][0], {parse_hour(str(hour)): gain for _, hour, *gain in found if hour is not None})


def newest_own_videos(owner_id: int, most: int) -> list[int]:
    """The newest videos of an owner."""
    found = ask(f"SELECT id FROM videos_video WHERE owner_id = %s ORDER BY id DESC LIMIT {int(most)}", [owner_id])
    return [video_id for (video_id,) in found]


class OwnerHistory(NamedTuple):
    """What the rows know of the history of an owner's videos, of one state of the database."""

    by_video: Mapping[int, tuple[int, Sequence[int]]]  # the newest batch that it contains, and its gains
    hours: Mapping[int, Sequence[int]]  # hour since 1970 -> gains, in the order of COUNTS
    before: Sequence[int]  # the gains of as many hours before


def read_owner_history(owner_id: int, begin: int, end: int) -> OwnerHistory:
    """The gains of all videos of an owner from hour `begin` to before hour `end`."""
    join = "JOIN videos_videohour h ON h.video_id = v.id AND h.hour >= %s AND h.hour < %s WHERE v.owner_id = %s"
    given = [hour_text(begin), hour_text(end), owner_id]
    with atomic():
        selected = f"SELECT v.id, v.flushed_batch, {_sums('h')} FROM videos_video v LEFT {join}"
        videos = ask(f"{selected} GROUP BY v.id, v.flushed_batch", given)
        hours = _by_hour(ask(f"SELECT {_hour('h')}, {_sums('h')} FROM videos_video v {join} GROUP BY h.hour", given))
        given[0], given[1] = hour_text(2 * begin - end), hour_text(begin)
        ((*before,),) = ask(f"SELECT {_sums('h')} FROM videos_video v {join}", given)
    by_video = {video_id: (watermark, _whole(gain)) for video_id, watermark, *gain in videos}
    return OwnerHistory(by_video, hours, _whole(before))


def read_site_hours(begin: int, end: int) -> dict[int, Sequence[int]]:
    """The gains of the site, by hour."""
    return _by_hour(ask(
        f"SELECT {_hour('h')}, {_sums('h')} FROM videos_sitehour h WHERE h.hour >= %s AND h.hour < %s GROUP BY h.hour",
        [hour_text(begin), hour_text(end)],
    ))  # fmt: skip


def _by_hour(found: Sequence[Sequence[int | str]]) -> dict[int, Sequence[int]]:
    return {parse_hour(str(hour)): _whole(gain) for hour, *gain in found}


def _whole(sums: Sequence[Any]) -> list[int]:
    return [int(value or 0) for value in sums]  # MySQL's sums are decimals, and NULL where there is no row


def _hour(table: str) -> str:
    return f"CAST({table}.hour AS CHAR)" if connection.vendor == "mysql" else f"{table}.hour"


def _gains(table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in _NAMES)


def _sums(table: str) -> str:
    return ", ".join(f"SUM({table}.{name})" for name in _NAMES)


def loose_since(now: datetime) -> datetime:
    """From when on hours are kept; those before are merged into days, sooner or later."""
    return (now - timedelta(days=conf.HOURS_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)


def roll_up(now: datetime) -> int:
    """Merge some of the old hours into the first hour of their day (UTC), in one transaction; call it again for more.

    Returns how many rows were merged.
    """
    # Which hour begins a day is decided here: MariaDB and MySQL know no zones unless their tables of them are filled.
    hours = rows(VideoHour).filter(hour__lt=loose_since(now)).order_by("hour").values_list("hour", flat=True)
    loose = [hour for hour in hours.distinct() if hour.hour][:LOOSE_HOURS]
    found = rows(VideoHour).filter(hour__in=loose).order_by("hour")
    chosen = dict(found.values_list("id", "video_id")[:STATEMENT_ROWS])
    if not chosen:
        return 0
    with atomic(durable=True):
        sql.lock_videos(set(chosen.values()))
        days: HourGains = defaultdict(zeros)
        merged = rows(VideoHour).filter(id__in=chosen)
        for video_id, hour, *gains in merged.values_list("video_id", "hour", *_NAMES):
            day = days[video_id, int(hour.timestamp()) // DAY_SECONDS * DAY_HOURS]
            for place, gain in enumerate(gains):
                day[place] += gain
        merged.delete()
        sql.add_hours(days)
        recompute_trends(set(chosen.values()))
    return len(chosen)


def loose_total(now: datetime) -> int:
    """How many rows are to be merged."""
    hours = rows(VideoHour).filter(hour__lt=loose_since(now)).values_list("hour").order_by().annotate(rows=Count("id"))
    return sum(number for hour, number in hours if hour.hour)


def history_total(before: datetime) -> int:
    """How many rows of videos and of the site `delete_history` would delete."""
    return rows(VideoHour).filter(hour__lt=before).count() + rows(SiteHour).filter(hour__lt=before).count()


def delete_history(before: datetime) -> int:
    """Delete some of the hours before a time, in one transaction; call it again for more. Counts stay as they are.

    Returns how many rows were deleted.
    """
    found = rows(VideoHour).filter(hour__lt=before).order_by("hour")
    chosen = dict(found.values_list("id", "video_id")[:STATEMENT_ROWS])
    if chosen:
        with atomic(durable=True):
            sql.lock_videos(set(chosen.values()))
            rows(VideoHour).filter(id__in=list(chosen)).delete()
            recompute_trends(set(chosen.values()))
        return len(chosen)
    ids = list(rows(SiteHour).filter(hour__lt=before).values_list("id", flat=True)[:STATEMENT_ROWS])
    rows(SiteHour).filter(id__in=ids).delete()
    return len(ids)


def merge_site_hours() -> None:
    """Merge the rows that transactions added to hours of the site; rows of transactions that still run are left."""
    several = rows(SiteHour).values("hour").order_by().annotate(rows=Count("id")).filter(rows__gt=1)
    for hour in list(several.values_list("hour", flat=True)):
        with atomic(durable=True):
            found = rows(SiteHour).filter(hour=hour).select_for_update(skip_locked=True)
            chosen = {pk: gain for pk, *gain in found.values_list("id", *_NAMES)[:STATEMENT_ROWS]}
            if chosen:
                sums = dict(zip(_NAMES, map(sum, zip(*chosen.values(), strict=True)), strict=True))
                rows(SiteHour).filter(id__in=list(chosen)).delete()
                rows(SiteHour).create(hour=hour, **sums)
