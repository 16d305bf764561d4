"""The known recipe: save the like row, INCR a key, and every minute write each key's value over its row.

`VideoLike.objects.create`, `cache.incr`, and a flush that lists the keys with KEYS and then takes one GET and one
UPDATE for each, at READ UNCOMMITTED.
"""

import argparse
import json
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import IntegrityError, connection, models, transaction
from django.urls import path
from django.utils import timezone
from rest_framework import status
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

VIEW_WINDOW_SECONDS = 1800
COLUMNS = {"VIDEO_LIKE": "good", "VIDEO_VIEW": "views"}


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


class LikeView(APIView):
    """Like: the row first, then the number in Redis."""

    permission_classes = (IsAuthenticated,)

    def put(self, request: Request, pk: int) -> Response:
        """Like a video."""
        try:
            VideoLike.objects.create(video_id=pk, user_id=request.user.id)
        except IntegrityError:
            return Response({"detail": "Liked already."}, status=status.HTTP_409_CONFLICT)
        likes = incr(f"VIDEO_LIKE::{pk}")
        return Response({"id": pk, "liked": True, "like_count": likes})


class WatchView(APIView):
    """Count a view, once for a viewer and window."""

    authentication_classes: Any = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request, pk: int) -> Response:
        """Count a view."""
        new = cache.add(f"SEEN::{pk}::{request.data['viewer']}", 1, VIEW_WINDOW_SECONDS)
        views = incr(f"VIDEO_VIEW::{pk}") if new else cache.get(f"VIDEO_VIEW::{pk}")
        return Response({"id": pk, "counted": bool(new), "view_count": views})


urlpatterns = [
    path("api/videos/<int:pk>/like/", LikeView.as_view()),
    path("api/videos/<int:pk>/view/", WatchView.as_view()),
]


def incr(key: str) -> int:
    """INCR: a key that is absent starts at 0."""
    return int(cache.incr(key, ignore_key_check=True))  # type: ignore[call-arg]


def flush(*, one_transaction: bool) -> int:
    """KEYS, then a GET and an UPDATE for each key, whatever has changed; how many keys there were.

    Autocommit is what the recipe has; with `one_transaction` it commits once, which is faster, and locks every row it
    has passed until the end.
    """
    done = 0
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        with transaction.atomic() if one_transaction else nullcontext():
            for prefix, column in COLUMNS.items():
                update = f"UPDATE recipe_video SET {column} = %s WHERE id = %s"
                for key in cache.keys(f"{prefix}::*"):  # type: ignore[attr-defined]
                    cursor.execute(update, [cache.get(key), key.partition("::")[2]])
                    done += 1
    return done


def flush_command(arguments: Sequence[str]) -> None:
    """Flush once, or every so many seconds until SIGTERM; print each run's keys and seconds as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=float)
    parser.add_argument("--one-transaction", action="store_true")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    if options.every is not None:
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.is_set():
        began = time.perf_counter()
        keys = flush(one_transaction=options.one_transaction)
        print(json.dumps({"keys": keys, "seconds": time.perf_counter() - began}), flush=True)
        if options.every is None:
            return
        stopped.wait(max(0.0, options.every - (time.perf_counter() - began)))
