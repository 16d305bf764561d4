"""Adds, edits and deletes videos. Signals call the functions that keep counts right and update Redis."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from django.db import DatabaseError, Error, IntegrityError, transaction

from videos import counters, ledger
from videos.changes import PLACES, TALLIES
from videos.ledger import reads
from videos.ledger.reads import VideoRow
from videos.models import Video
from videos.services.accounts import active_user
from videos.services.database import database
from videos.services.outcomes import UserNotFound, VideoNotFound

logger = logging.getLogger(__name__)

IMPORTABLE: Final = {count.column: PLACES[count.name] for count in TALLIES}  # a column -> its place in Totals


def add_video(*, owner_id: int, values: Mapping[str, Any]) -> VideoRow:
    """Add a video with these values of its columns. Raises UserNotFound, Unavailable."""
    video = Video(owner=active_user(user_id=owner_id), **values)
    with database():
        try:
            with ledger.atomic():
                video.save(using=ledger.alias())
        except IntegrityError as error:  # the owner was deleted just now
            raise UserNotFound from error
    return VideoRow.of(video)


def edit_video(*, video_id: int, values: Mapping[str, Any]) -> VideoRow:
    """Write these columns and no others, so that two editors of two columns both win.

    Raises VideoNotFound, Unavailable.
    """
    with database():
        video = _get(video_id)
        for name, value in values.items():
            setattr(video, name, value)
        try:
            with ledger.atomic():
                video.save(using=ledger.alias(), update_fields=list(values))
        except DatabaseError as error:
            if error.__cause__ is not None:  # from the database; Django's error for a missing row has no cause
                raise
            raise VideoNotFound from error
    return VideoRow.of(video)


def delete_video(*, video_id: int) -> None:
    """Delete a video, with its likes and its history. Raises VideoNotFound, Unavailable."""
    with database(patient=True):
        _get(video_id).delete(using=ledger.alias())


def _get(video_id: int) -> Video:
    video = ledger.rows(Video).filter(pk=video_id).first()
    if video is None:
        raise VideoNotFound
    return video


# The functions below are called in the transaction of a deletion or an edit. `using` is the alias of its database: the
# rows of another database than the service's own are left alone.


def forget_user(*, user_id: int, using: str) -> None:
    """Remove the likes of a user who is being deleted from all counts."""
    if using == ledger.alias():
        ledger.forget_user(user_id, at_ms=counters.now_ms())


def forget_video(*, video_id: int, using: str) -> None:
    """Remove the live key of a video that is being deleted."""
    if using == ledger.alias():
        ledger.forget_video(video_id)
        transaction.on_commit(lambda: _try_at_once(lambda: counters.forget(video_id)), using=using)


def refresh_video(*, video_id: int, using: str, at_once: bool) -> None:
    """Pass an edited owner or duration to the rules of views, `at_once` or with the next flush."""
    if using != ledger.alias():
        return
    if at_once:
        ledger.note_edit(video_id, at_ms=counters.now_ms())
    else:
        ledger.note_stale([video_id])

    def refresh() -> None:
        facts = reads.read_facts([video_id]).get(video_id)
        if facts is not None:
            counters.refresh(video_id=video_id, owner_id=facts.owner_id, duration=facts.duration)

    if at_once:
        transaction.on_commit(lambda: _try_at_once(refresh), using=using)


def keep_watermark(*, video: Video, using: str) -> None:
    """Give a video of a fixture the watermark of its row here, or none."""
    if using == ledger.alias():
        video.flushed_batch = ledger.lock_watermark(video.pk)


def note_like(*, video_id: int, user_id: int, using: str) -> None:
    """Let the flush set what Redis knows of a like that was written to the rows, and of its video."""
    if using == ledger.alias():
        ledger.note_like(video_id, user_id, at_ms=counters.now_ms())


def index_videos(*, video_ids: Collection[int], using: str) -> None:
    """Let searches find videos by the texts that were just written."""
    if using == ledger.alias():
        ledger.index_videos(video_ids)


def index_all(*, using: str | None = None, progress: Callable[[int, int], None] | None = None) -> int:
    """Compare the words of all videos with their texts, and write what differs; returns how many videos differed.

    For texts that were written by SQL, or by an older version of the service. `using`: where a migration runs.
    """
    if using not in {None, ledger.alias()}:
        return 0
    total, done, after, changed = ledger.video_total(), 0, 0, 0
    while part := ledger.video_ids(after, ledger.PART_VIDEOS):
        changed += ledger.index_range(after, part[-1])
        done, after = done + len(part), part[-1]
        if progress is not None:
            progress(done, total)
    return changed + ledger.index_range(after, None)


def import_counts(*, column: str, values: Mapping[int, int], add: bool) -> list[int]:
    """Set a count of videos to these values, by video, or `add` them. The next flush shows them to readers.

    Returns the videos that do not exist; the others are written in one transaction. Raises ValueError for a count that
    is no tally, Unavailable, ValueRefused.
    """
    if column not in IMPORTABLE:
        raise ValueError(f"{column} cannot be imported, only {', '.join(IMPORTABLE)}.")
    with database():
        return ledger.import_counts(IMPORTABLE[column], values, add=add)


def _try_at_once(act: Callable[[], None]) -> None:
    """Do now what the flush will do when it settles the note; an outage is therefore only logged."""
    try:
        act()
    except (counters.CountersUnavailable, Error) as error:
        if isinstance(error, Error) and not ledger.is_away(error):
            raise
        logger.warning("Left to the next flush: %s", error)
