"""Adds, edits and deletes videos. Signals pass edits and deletions on to `upkeep`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError

from videos.ledger.reads import VideoRow
from videos.models import Video
from videos.services.database import database
from videos.services.outcomes import UserNotFound, VideoNotFound


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
    with database():
        _get(video_id).delete()


def _get(video_id: int) -> Video:
    video = Video.objects.filter(pk=video_id).first()
    if video is None:
        raise VideoNotFound
    return video
