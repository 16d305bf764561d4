"""The recipe's request path: the row first, then the number in Redis."""

from typing import Any

from django.core.cache import cache
from django.db import IntegrityError
from rest_framework import status
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.recipe.models import VideoLike

VIEW_WINDOW_SECONDS = 1800


class LikeView(APIView):
    """Like and unlike."""

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


def incr(key: str) -> int:
    """INCR: a key that is absent starts at 0."""
    return int(cache.incr(key, ignore_key_check=True))  # type: ignore[call-arg]
