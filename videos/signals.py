"""Hands deletions and edits that are made through Django to `services`, which keeps the counts right."""

from typing import Any

from django.conf import settings
from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver

from videos import services
from videos.models import Video


@receiver(pre_delete, sender=settings.AUTH_USER_MODEL)
def forget_user(sender: type[Any], instance: Any, **kwargs: Any) -> None:
    """Take a deleted user's likes out of the counts. Before the deletion, while the like rows still exist."""
    services.forget_user(user_id=instance.pk)


@receiver(pre_delete, sender=Video)
def forget_video(sender: type[Video], instance: Video, **kwargs: Any) -> None:
    """Drop a deleted video from Redis. Before the deletion, so that its row is locked before its like rows."""
    services.forget_video(video_id=instance.pk)


@receiver(post_save, sender=Video)
def refresh_video(sender: type[Video], instance: Video, created: bool, **kwargs: Any) -> None:
    """Give an edited owner and duration to the rules of views. A new video is read at its first use."""
    if not created:
        services.refresh_video(video_id=instance.pk)
