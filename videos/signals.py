"""Hands deletions and edits that are made through Django, and new connections, to `services`.

Django sends a signal for the class whose rows it writes: also for a proxy, or for a model that inherits the row of a
user or a video. So each of these classes is connected. A receiver for all senders would be simpler, but with one Django
deletes no rows by a statement: it would read each like of a deleted video first.
"""

from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_login_failed
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save, pre_delete, pre_save

from videos import services
from videos.api import signing_in
from videos.models import TEXTS, Video, VideoLike, texts_written


def forget_user(sender: type[Any], instance: Any, using: str, **kwargs: Any) -> None:
    """Take a deleted user's likes out of the counts. Before the deletion, while the like rows still exist."""
    services.forget_user(user_id=instance.pk, using=using)


def forget_video(sender: type[Any], instance: Video, using: str, **kwargs: Any) -> None:
    """Drop a deleted video from Redis. Before the deletion, so that its row is locked before its like rows."""
    services.forget_video(video_id=instance.pk, using=using)


def refresh_video(sender: type[Any], instance: Video, created: bool, using: str, raw: bool, **kwargs: Any) -> None:
    """Give an edited owner and duration to the rules of views. A new video is read at its first use.

    A video of a fixture (`raw`) may have the id of one that was there before.
    """
    if raw or not created:
        services.refresh_video(video_id=instance.pk, using=using, at_once=not raw)


def keep_watermark(sender: type[Any], instance: Video, using: str, raw: bool, **kwargs: Any) -> None:
    """Keep a watermark from coming with a fixture: it is a number of another database, or of an earlier time."""
    if raw:
        services.keep_watermark(video=instance, using=using)


def index_video(
    sender: type[Any], instance: Video, created: bool, using: str, update_fields: Any, **kwargs: Any
) -> None:
    """Let searches find a new or edited text, in the transaction of `Video.save`."""
    if created or update_fields is None or TEXTS & set(update_fields):
        services.index_videos(video_ids=[instance.pk], using=using)


def index_many(sender: type[Any], video_ids: Collection[int], using: str, **kwargs: Any) -> None:
    """The same for `update` and `bulk_create`."""
    services.index_videos(video_ids=video_ids, using=using)


def note_like(sender: type[Any], instance: VideoLike, using: str, raw: bool, **kwargs: Any) -> None:
    """Let the flush show a like that a fixture brought."""
    if raw:
        services.note_like(video_id=instance.video_id, user_id=instance.user_id, using=using)


def keep_sign_ins(sender: type[Any], instance: Any, using: str, update_fields: Any, **kwargs: Any) -> None:
    """Let a stronger hash of the same password, which Django writes when the user signs in, end no sign-in."""
    if update_fields == frozenset({"password"}):
        services.keep_sign_ins(user=instance, using=using)


def log_failed_sign_in(sender: Any, credentials: dict[str, Any], request: Any = None, **kwargs: Any) -> None:
    """Log each guess at a password, at whichever door."""
    signing_in.log_failed_sign_in(credentials, request)


def connect() -> None:
    """Connect the receivers to every class of users and of videos."""
    for model in apps.get_models():
        if issubclass(model, get_user_model()):
            pre_delete.connect(forget_user, sender=model, dispatch_uid="videos.forget_user")
            pre_save.connect(keep_sign_ins, sender=model, dispatch_uid="videos.keep_sign_ins")
        if issubclass(model, Video):
            pre_delete.connect(forget_video, sender=model, dispatch_uid="videos.forget_video")
            pre_save.connect(keep_watermark, sender=model, dispatch_uid="videos.keep_watermark")
            post_save.connect(refresh_video, sender=model, dispatch_uid="videos.refresh_video")
            post_save.connect(index_video, sender=model, dispatch_uid="videos.index_video")
            texts_written.connect(index_many, sender=model, dispatch_uid="videos.index_many")
    connection_created.connect(services.refuse_clear, dispatch_uid="videos.refuse_clear")
    user_login_failed.connect(log_failed_sign_in, dispatch_uid="videos.log_failed_sign_in")
    post_save.connect(note_like, sender=VideoLike, dispatch_uid="videos.note_like")
