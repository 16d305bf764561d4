"""A video with its stored counts, and who likes it."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class Video(models.Model):
    """A video; `good` and `views` are what the minute's flush last wrote."""

    title = models.CharField(max_length=200)
    good = models.BigIntegerField(default=0)
    views = models.BigIntegerField(default=0)


class VideoLike(models.Model):
    """A user likes a video."""

    video = models.ForeignKey(Video, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        unique_together = [("video", "user")]  # noqa: RUF012
