"""A video with count columns, and who likes it."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class Video(models.Model):
    """A video; the JOIN + COUNT reads never look at its columns."""

    title = models.CharField(max_length=200)
    like_count = models.BigIntegerField(default=0)
    view_count = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)


class VideoLike(models.Model):
    """A user likes a video."""

    video = models.ForeignKey(Video, on_delete=models.CASCADE, related_name="likes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        unique_together = [("video", "user")]  # noqa: RUF012
