"""The recount of like rows against `like_count`, for use after SQL by hand or a restored backup."""

from collections.abc import Sequence
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count

from videos.changes import LIKE, MARK_PLACES, zeros
from videos.ledger import sql
from videos.ledger.notes import note_stale
from videos.ledger.retry import again
from videos.models import Video, VideoLike


class Difference(NamedTuple):
    """A count that differs from the number of its rows."""

    video_id: int
    stored: int
    counted: int


def recount(video_ids: Sequence[int], *, repair: bool) -> list[Difference]:
    """Compare `like_count` with the like rows of these videos, under their locks; `repair` corrects it."""
    place = MARK_PLACES[LIKE]

    def recount_once() -> list[Difference]:
        with transaction.atomic(durable=True):
            stored = {row.id: row.totals[place] for row in sql.lock_videos(video_ids).values()}
            rows = VideoLike.objects.filter(video_id__in=list(stored)).order_by()
            counted = dict(rows.values_list("video_id").annotate(likes=Count("id")))
            found = [
                Difference(video_id, likes, counted.get(video_id, 0))
                for video_id, likes in stored.items()
                if likes != counted.get(video_id, 0)
            ]
            if repair:
                gains = {difference.video_id: zeros() for difference in found}
                for difference in found:
                    gains[difference.video_id][place] = difference.counted - difference.stored
                sql.add_counts(gains, None)
                note_stale(gains)
        return found

    return again(recount_once)


def video_ids(after: int, limit: int) -> list[int]:
    """The next `limit` video ids after the id `after`."""
    return list(Video.objects.filter(id__gt=after).order_by("id").values_list("id", flat=True)[:limit])


def video_total() -> int:
    """How many videos there are."""
    return Video.objects.count()
