"""Lists that are read seldom enough for Django's queries: who likes a video, what a user likes."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from videos.changes import LIKE
from videos.ledger.reads import Window
from videos.ledger.times import from_stored, to_stored
from videos.ledger.writer import rows
from videos.models import Video, VideoLike


def likes_of_video(video_id: int, window: Window, *, without: Collection[int]) -> Sequence[tuple[datetime, int]]:
    """When who liked a video; `without` these users. The ids are those of users."""
    likes = (
        rows(VideoLike)
        .filter(video=video_id, value=LIKE)
        .exclude(user__in=without)
        .values_list("created_at", "user_id")
    )
    return [(from_stored(at), user_id) for at, user_id in _within(likes, window, tie="user_id")]


def likes_of_user(user_id: int, window: Window, *, without: Collection[int]) -> Sequence[tuple[datetime, int]]:
    """When the user liked what; `without` these videos. The ids are those of videos."""
    likes = (
        rows(VideoLike)
        .filter(user=user_id, value=LIKE)
        .exclude(video__in=without)
        .values_list("created_at", "video_id")
    )
    return [(from_stored(at), video_id) for at, video_id in _within(likes, window, tie="video_id")]


def usernames(user_ids: Iterable[int]) -> dict[int, str]:
    """Names by user; absent users are left out."""
    return {user_id: user.get_username() for user_id, user in rows(get_user_model()).in_bulk(list(user_ids)).items()}


def users_named(name: str, *, most: int) -> list[int]:
    """The users of this name, several if the user model allows it."""
    users = rows(get_user_model()).filter(**{get_user_model().USERNAME_FIELD: name})
    return list(users.values_list("pk", flat=True)[:most])


def videos_of_owners(owner_ids: Collection[int], *, most: int) -> list[int]:
    """The newest videos of some users."""
    videos = rows(Video).filter(owner__in=owner_ids).order_by("-pk")
    return list(videos.values_list("pk", flat=True)[:most])


def _within(found: QuerySet[Any, Any], window: Window, *, tie: str) -> Sequence[Any]:
    by, falling, beyond, most = window
    if beyond is not None:
        compare = "lt" if falling else "gt"
        value, last_id = beyond
        if isinstance(value, datetime):
            value = to_stored(value)
        after = Q((f"{by}__{compare}", value)) | Q((by, value), (f"{tie}__{compare}", last_id))
        # The first condition lets SQLite walk the index from there on; the second is two ranges of it to MySQL.
        found = found.filter(Q((f"{by}__{compare}e", value)) & after)
    sign = "-" if falling else ""
    return list(found.order_by(f"{sign}{by}", f"{sign}{tie}")[:most])
