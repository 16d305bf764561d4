"""The watch over deletions and edits made through Django: each is handed to `services`, which keeps counts right."""

from typing import Any

from django.conf import settings
from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver

from videos import services
from videos.models import Video


@receiver(pre_delete, sender=settings.AUTH_USER_MODEL)
def forget_user(sender: type[Any], instance: Any, **kwargs: Any) -> None:
    """Take a user's likes out of the counts; before the deletion, while the rows still say which videos they are on."""
    services.forget_user(user_id=instance.pk)


@receiver(pre_delete, sender=Video)
def forget_video(sender: type[Video], instance: Video, **kwargs: Any) -> None:
    """Drop what Redis holds of a video.

    Before the deletion, so that its row is locked before its likes, as elsewhere.
    """
    services.forget_video(video_id=instance.pk)


@receiver(post_save, sender=Video)
def refresh_video(sender: type[Video], instance: Video, created: bool, **kwargs: Any) -> None:
    """Tell the view rules of an edited video about its owner and duration. A new one is read when first used."""
    if not created:
        services.refresh_video(video_id=instance.pk)
