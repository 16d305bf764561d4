"""Users who were deleted: what the flush must still remove from Redis. And what the rows hold of a user."""

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import F

from videos.changes import DISLIKE, LIKE
from videos.conf import conf
from videos.ledger.times import from_stored, to_stored
from videos.ledger.writer import rows
from videos.models import ForgottenUser, SignIn, Video, VideoLike


def note_forgotten(user_id: int) -> None:
    """Let the flush remove a user's keys from Redis. Call it in the transaction that deletes the user."""
    now = datetime.now(UTC)
    # A minute for clocks that differ, and for requests that are on their way.
    ends_at = to_stored(now + timedelta(minutes=conf.TOKEN_MINUTES + 1))
    values = {"due_at": to_stored(now), "ends_at": ends_at}
    rows(ForgottenUser).update_or_create(user=user_id, defaults=values)


def forgotten_users(now: datetime) -> list[int]:
    """The users whose keys are to be removed now."""
    return list(rows(ForgottenUser).filter(due_at__lte=to_stored(now)).values_list("user", flat=True))


def settle_forgotten(user_ids: Collection[int], now: datetime) -> None:
    """Record that the keys of these users were removed: they are looked for once more, when no token is valid."""
    done = rows(ForgottenUser).filter(user__in=user_ids)
    done.filter(ends_at__lte=to_stored(now)).delete()
    done.update(due_at=F("ends_at"))


def rows_of_user(user_id: int) -> dict[str, Any]:
    """What the database holds of a user, without the password's hash."""
    user = rows(get_user_model()).get(pk=user_id)
    own = {field.name: field.value_from_object(user) for field in user._meta.concrete_fields}
    own.pop("password", None)
    likes = rows(VideoLike).filter(user_id=user_id).order_by("video_id").values_list("video_id", "value", "created_at")
    sign_ins = rows(SignIn).filter(user_id=user_id).values_list("expires_at", flat=True)
    videos: Iterable[Any] = rows(Video).filter(owner_id=user_id).order_by("id").values()
    return {
        "user": own,
        "videos": list(videos),
        "likes": [{"video": pk, "created_at": from_stored(at)} for pk, value, at in likes if value == LIKE],
        "dislikes": [{"video": pk, "created_at": from_stored(at)} for pk, value, at in likes if value == DISLIKE],
        "sign_ins": [{"expires_at": from_stored(at)} for at in sign_ins],
    }
