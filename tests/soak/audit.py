"""The audit at the end of a soak: what was acknowledged, against rows, counts, batches and Redis. Needs Django."""

import time
from collections import Counter
from typing import Any, Final

from django.db.models import F, Sum

from tests.soak.book import Book
from tests.soak.stack import Stack
from tests.support.factories import WATCHED_SECONDS
from videos import counters, flush
from videos.changes import LIKE
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

DRAIN_SECONDS: Final = 120.0


def drain(stack: Stack) -> list[str]:
    """Flush until nothing is pending."""
    end = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < end:
        stack.manage("flush_counters")
        status = flush.read_status()
        if not status.pending_fields and not status.claimed_fields and not status.stale_notes:
            return []
    return [f"not drained in {DRAIN_SECONDS:.0f} s: {flush.read_status()}"]


def audit(book: Book, videos: list[int], *, may_be_rewound: bool = False) -> tuple[dict[str, Any], list[str]]:
    """Sums, and everything that is off. `may_be_rewound`: Redis was set back, so it may have forgotten batches."""
    rows = {video.pk: video for video in Video.objects.filter(pk__in=videos)}
    liking = set(VideoLike.objects.filter(value=LIKE).values_list("video_id", "user_id"))
    off = book.differences(liking, {pk: video.view_count for pk, video in rows.items()})
    likes = Counter(video for video, _ in liking)
    hours = dict(VideoHour.objects.values_list("video_id").annotate(Sum("views")))
    shown = counters.lookup(videos, None)
    for pk, video in rows.items():
        if video.like_count != likes[pk]:
            off.append(f"video {pk}: like_count {video.like_count}, {likes[pk]} rows")
        if video.view_count != hours.get(pk, 0):
            off.append(f"video {pk}: view_count {video.view_count}, {hours.get(pk, 0)} in its hours")
        if video.watch_seconds != video.view_count * WATCHED_SECONDS:
            off.append(f"video {pk}: view_count {video.view_count}, watch_seconds {video.watch_seconds}")
        if shown[pk].totals not in {None, video.totals}:
            off.append(f"video {pk}: {shown[pk].totals} are shown, {video.totals} are stored")
    off += [f"reconcile: {difference}" for difference in flush.reconcile().differences]
    off += [f"batch {batch} is not finished" for batch in FlushBatch.objects.filter(finished_at=None)]
    batches = FlushBatch.objects.exclude(rewound=True)
    if not may_be_rewound:
        off += [f"batch {batch} is marked rewound" for batch in FlushBatch.objects.filter(rewound=True)]
    accounted = F("applied") + F("repeated") + F("dropped") + F("rejected")
    off += [f"batch {batch} is not accounted for" for batch in batches.exclude(fields=accounted)]
    off += [f"batch {batch} has rejected fields" for batch in FlushBatch.objects.filter(rejected__gt=0)]
    off += [f"batch {batch} has dropped fields" for batch in FlushBatch.objects.filter(dropped__gt=0)]
    sums = {
        "pairs_acknowledged": len(book.wishes), "pairs_open": len(book.open_wishes),
        "views_acknowledged": book.views.total(), "views_open": book.open_views.total(),
        "like_rows": len(liking), "views_stored": sum(video.view_count for video in rows.values()),
        "batches": FlushBatch.objects.count(),
        "repeated_fields": FlushBatch.objects.aggregate(sum=Sum("repeated"))["sum"] or 0,
        "notes_left": StaleLive.objects.count(),
    }  # fmt: skip
    return sums, off
