"""Users, videos and likes. Imports stand inside: conftest.py reads this before Django is set up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from videos.models import Video

# Of views in random orders: each moves the watch time with it, so that one is always so many times the other.
WATCHED, WATCHED_SECONDS = 41.6, 42


def wish_of(chance: float) -> int:
    """The value of a mark that a user of a random order wishes: six of ten like."""
    from videos.changes import DISLIKE, LIKE, NOTHING

    return LIKE if chance < 0.6 else NOTHING if chance < 0.8 else DISLIKE


def make_user(username: str = "user", **values: Any) -> User:
    """A user without a password."""
    from django.contrib.auth.models import User

    return User.objects.create(username=username, **values)


def make_admin() -> User:
    """A superuser without a password."""
    return make_user("admin", is_staff=True, is_superuser=True)


def allow(user: User, *codenames: str) -> User:
    """The user, with these permissions of videos, such as change_video."""
    from django.contrib.auth.models import Permission

    user.user_permissions.add(*Permission.objects.filter(content_type__app_label="videos", codename__in=codenames))
    return user


def make_users(count: int, prefix: str = "user") -> list[int]:
    """The ids of new users, in ascending order."""
    from django.contrib.auth.models import User

    User.objects.bulk_create((User(username=f"{prefix}{i}") for i in range(count)), batch_size=1000)
    return list(User.objects.filter(username__startswith=prefix).order_by("id").values_list("id", flat=True))


def make_video(owner: User | None = None, **values: Any) -> Video:
    """A video of the given owner, or of a user named "owner". Its counts stand in the row only."""
    from videos.changes import COLUMNS
    from videos.models import Video

    video = Video.objects.create(**_video_values(owner, values))
    counts = {column: values[column] for column in COLUMNS if column in values}
    if counts:
        Video.objects.filter(pk=video.pk).update(**counts)
        video.refresh_from_db()
    return video


def make_videos(count: int, owner: User | None = None) -> list[int]:
    """The ids of new videos, in descending order."""
    from videos.models import Video

    values = _video_values(owner, {})
    Video.objects.bulk_create(Video(**values | {"title": str(i)}) for i in range(count))
    return list(Video.objects.order_by("-id").values_list("id", flat=True)[:count])


def make_likes(videos: int = 1, users: int = 1) -> tuple[list[int], list[int]]:
    """The ids of new videos and of new users, of which each likes each video."""
    made = make_videos(videos), make_users(users)
    like_all(*made)
    return made


def like_all(video_ids: Iterable[int], user_ids: Sequence[int]) -> None:
    """Let each of these users like each of these videos."""
    from videos import services

    for video_id in video_ids:
        for user_id in user_ids:
            services.set_like(video_id=video_id, user_id=user_id, liked=True)


def _video_values(owner: User | None, values: dict[str, Any]) -> dict[str, Any]:
    from django.contrib.auth.models import User

    owner = owner or User.objects.get_or_create(username="owner")[0]
    return {"title": "one", "url": "https://example.com/v", "owner": owner, **values}
