"""Adds, edits and deletes videos. Signals call the functions that keep counts right and update Redis."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError, transaction

from videos import counters, ledger
from videos.ledger import reads
from videos.ledger.reads import VideoRow
from videos.models import Video
from videos.services.database import database
from videos.services.outcomes import UserNotFound, VideoNotFound

logger = logging.getLogger(__name__)


def active_user(*, user_id: int) -> Any:
    """The user of this id. Raises UserNotFound, also for an inactive one; Unavailable."""
    with database():
        user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise UserNotFound
    return user


def add_video(*, owner_id: int, values: Mapping[str, Any]) -> VideoRow:
    """Add a video with these values of its columns. Raises UserNotFound, Unavailable."""
    video = Video(owner=active_user(user_id=owner_id), **values)
    with database():
        try:
            video.save()
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
            video.save(update_fields=list(values))
        except DatabaseError as error:
            if error.__cause__ is not None:  # from the database; Django's error for a missing row has no cause
                raise
            raise VideoNotFound from error
    return VideoRow.of(video)


def delete_video(*, video_id: int) -> None:
    """Delete a video, with its likes and its history. Raises VideoNotFound, Unavailable."""
    with database(patient=True):
        _get(video_id).delete()


def _get(video_id: int) -> Video:
    video = Video.objects.filter(pk=video_id).first()
    if video is None:
        raise VideoNotFound
    return video


def forget_user(*, user_id: int) -> None:
    """Remove the likes of a user who is being deleted from all counts. Call it in the deleting transaction."""
    ledger.forget_user(user_id, at_ms=counters.now_ms())


def forget_video(*, video_id: int) -> None:
    """Remove the live key of a video that is being deleted. Call it in the deleting transaction."""
    ledger.forget_video(video_id)
    transaction.on_commit(lambda: _try_at_once(lambda: counters.forget(video_id)))


def refresh_video(*, video_id: int) -> None:
    """Pass an edited owner or duration to the rules of views. Call it in the editing transaction."""
    ledger.note_stale([video_id])

    def refresh() -> None:
        facts = reads.read_facts([video_id]).get(video_id)
        if facts is not None:
            counters.refresh(video_id=video_id, owner_id=facts.owner_id, duration=facts.duration)

    transaction.on_commit(lambda: _try_at_once(refresh))


def _try_at_once(act: Callable[[], None]) -> None:
    """Do now what the flush will do when it settles the note; an outage is therefore only logged."""
    try:
        act()
    except (counters.CountersUnavailable, InterfaceError, OperationalError) as error:
        logger.warning("Left to the next flush: %s", error)
