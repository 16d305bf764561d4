"""Counting in the database alone: `F("count") + 1` in the request, or JOIN + COUNT over like rows when read."""

from typing import Any

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import Count, Exists, F, OuterRef
from django.urls import path
from django.utils import timezone
from rest_framework import status
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

PAGE = 50


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


class LikeView(APIView):
    """Like with the row and the number in one transaction."""

    permission_classes = (IsAuthenticated,)

    def put(self, request: Request, pk: int) -> Response:
        """Like a video."""
        try:
            with transaction.atomic():
                VideoLike.objects.create(video_id=pk, user_id=request.user.id)
                Video.objects.filter(pk=pk).update(like_count=F("like_count") + 1)
        except IntegrityError:
            return Response({"detail": "Liked already."}, status=status.HTTP_409_CONFLICT)
        return Response({"id": pk, "liked": True})


class WatchView(APIView):
    """Count every view with `F() + 1`; repeated views of one viewer count again."""

    authentication_classes: Any = ()
    permission_classes = (AllowAny,)

    def post(self, request: Request, pk: int) -> Response:
        """Count a view."""
        Video.objects.filter(pk=pk).update(view_count=F("view_count") + 1)
        return Response({"id": pk, "counted": True})


class ListView(APIView):
    """The newest videos with their number of likes: JOIN + COUNT + GROUP BY, as the Django manual shows it."""

    def get(self, request: Request) -> Response:
        """One page."""
        liked = VideoLike.objects.filter(video=OuterRef("pk"), user=request.user.id)
        page = Video.objects.order_by("-created_at").annotate(likes_now=Count("likes"), liked=Exists(liked))[:PAGE]
        return Response(
            {
                "results": [
                    {"id": video.pk, "title": video.title, "like_count": video.likes_now, "liked": video.liked}
                    for video in page
                ]
            }
        )


class CountView(APIView):
    """One video's number of likes: COUNT over its rows."""

    def get(self, request: Request, pk: int) -> Response:
        """Count its rows."""
        video = Video.objects.annotate(likes_now=Count("likes")).get(pk=pk)
        return Response({"id": pk, "like_count": video.likes_now})


urlpatterns = [
    path("api/videos/", ListView.as_view()),
    path("api/videos/<int:pk>/", CountView.as_view()),
    path("api/videos/<int:pk>/like/", LikeView.as_view()),
    path("api/videos/<int:pk>/view/", WatchView.as_view()),
]
