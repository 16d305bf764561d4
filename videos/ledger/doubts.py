"""Views of which nobody knows whether Redis counted them, because it did not answer: shared by all web servers.

Counted in the rows too, such a view could count twice. So it stays doubtful until its window has passed, or until Redis
answers its repeat. Times are those of Redis' clock: those of two web servers may be further apart than a window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from videos.conf import conf
from videos.ledger.sql import STATEMENT_ROWS, parts
from videos.ledger.times import to_stored
from videos.ledger.writer import connection, rows
from videos.models import DoubtfulView


def note_doubts(views: Iterable[tuple[int, str]], *, now: datetime) -> None:
    """Record that these views, each a video and a viewer, may have been counted."""
    at = to_stored(now)
    rows(DoubtfulView).bulk_create(
        (DoubtfulView(video=video_id, viewer=_short(viewer), at=at) for video_id, viewer in views),
        batch_size=STATEMENT_ROWS,
        update_conflicts=True,
        update_fields=["at"],
        # MySQL finds a conflict by itself and refuses to be told with what.
        unique_fields=["viewer", "video"] if connection.features.supports_update_conflicts_with_target else None,
    )


def has_doubts(views: Iterable[tuple[int, str]], *, now: datetime) -> bool:
    """Whether one of these views may have been counted in its window."""
    wanted = {(video_id, _short(viewer)) for video_id, viewer in views}
    known = rows(DoubtfulView).filter(at__gt=_window_begin(now))
    return any(
        view in wanted
        for part in parts(sorted({viewer for _, viewer in wanted}), 1000)
        for view in known.filter(viewer__in=part).values_list("video", "viewer")
    )


def forget_doubts(now: datetime) -> None:
    """Delete the doubts whose window has passed."""
    rows(DoubtfulView).filter(at__lte=_window_begin(now)).delete()


def _window_begin(now: datetime) -> datetime:
    return to_stored(now - timedelta(seconds=conf.VIEW_WINDOW_SECONDS))


def _short(viewer: str) -> str:
    return hashlib.blake2b(viewer.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
