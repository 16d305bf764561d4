"""The recount of like rows against `like_count` and `dislike_count`, for use after SQL by hand or a restored backup."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db.models import Count

from videos.changes import COLUMNS, MARK_PLACES, zeros
from videos.ledger import sql
from videos.ledger.notes import note_stale
from videos.ledger.retry import again
from videos.ledger.writer import atomic, rows
from videos.models import Video, VideoLike


class Difference(NamedTuple):
    """A count that differs from the number of its rows."""

    video_id: int
    column: str
    stored: int
    counted: int


def recount(video_ids: Sequence[int], *, repair: bool) -> list[Difference]:
    """Compare the counts of marks with the like rows of these videos, under their locks; `repair` corrects them."""

    def recount_once() -> list[Difference]:
        with atomic(durable=True):
            stored = {row.id: row.totals for row in sql.lock_videos(video_ids).values()}
            marks = rows(VideoLike).filter(video_id__in=list(stored)).order_by()
            counted = {
                (pk, value): marked
                for pk, value, marked in marks.values_list("video_id", "value").annotate(Count("id"))
            }
            found, gains = [], {}
            for video_id, totals in stored.items():
                gain = zeros()
                for value, place in MARK_PLACES.items():
                    gain[place] = counted.get((video_id, value), 0) - totals[place]
                    if gain[place]:
                        found.append(Difference(video_id, COLUMNS[place], totals[place], totals[place] + gain[place]))
                if any(gain):
                    gains[video_id] = gain
            if repair:
                sql.add_counts(gains, None)
                note_stale(gains)
        return found

    return again(recount_once)


def import_counts(place: int, values: Mapping[int, int], *, add: bool) -> list[int]:
    """Set the count at this place of Totals to these values, by video, or `add` them; leave notes.

    Returns the videos that do not exist.
    """

    def write() -> list[int]:
        with atomic():
            locked = sql.lock_videos(values)
            gains = {}
            for video_id, row in locked.items():
                gain = zeros()
                gain[place] = values[video_id] - (0 if add else row.totals[place])
                if any(gain):
                    gains[video_id] = gain
            sql.add_counts(gains, None)
            note_stale(gains)
        return sorted(set(values) - set(locked))

    return again(write)


def video_ids(after: int, limit: int) -> list[int]:
    """The next `limit` video ids after the id `after`."""
    return list(rows(Video).filter(id__gt=after).order_by("id").values_list("id", flat=True)[:limit])


def video_total() -> int:
    """How many videos there are."""
    return rows(Video).count()
