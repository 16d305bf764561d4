"""Likes: the caller's like of a video, who likes a video, what the caller likes."""

from typing import cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.request import Request

from videos import services
from videos.api.answers import json_answer, time_text, video_data
from videos.api.base import BaseView, require, user_id_of
from videos.api.errors import render
from videos.api.pagination import KeysetPagination, Position
from videos.api.shapes import LikedVideoSerializer, LikerSerializer, LikeSerializer, responses
from videos.conf import conf

_READ = responses({200: LikeSerializer}, 401, 404)
_WRITTEN = responses({200: LikeSerializer}, 401, 403, 404, 429)


class LikeView(BaseView):
    """The caller's like of a video."""

    address = "like"
    permission_classes = (IsAuthenticatedOrReadOnly,)

    @extend_schema(operation_id="like_retrieve", summary="Do I like it?", responses=_READ)
    def get(self, request: Request, video: int) -> HttpResponse:
        """Whether the caller likes it, the last wish included."""
        return self.operate(request, video)

    @extend_schema(operation_id="like", summary="Like", request=None, responses=_WRITTEN)
    def put(self, request: Request, video: int) -> HttpResponse:
        """Like it. Repeats change nothing."""
        return self.operate(request, video)

    @extend_schema(operation_id="like_post", summary="Like", request=None, responses=_WRITTEN)
    def post(self, request: Request, video: int) -> HttpResponse:
        """The same as PUT."""
        return self.operate(request, video)

    @extend_schema(
        operation_id="unlike",
        summary="Unlike",
        description="Takes the caller's mark back: a like, and a dislike too. Repeats change nothing.",
        responses=_WRITTEN,
    )
    def delete(self, request: Request, video: int) -> HttpResponse:
        """Take the mark back."""
        return self.operate(request, video)


class DislikeView(BaseView):
    """The caller's dislike of a video. It replaces a like, as a like replaces it."""

    address = "dislike"
    permission_classes = (IsAuthenticated,)

    @extend_schema(operation_id="dislike", summary="Dislike", request=None, responses=_WRITTEN)
    def put(self, request: Request, video: int) -> HttpResponse:
        """Dislike it. Repeats change nothing. 404 where the operator has turned dislikes off."""
        return self.operate(request, video)

    @extend_schema(operation_id="dislike_post", summary="Dislike", request=None, responses=_WRITTEN)
    def post(self, request: Request, video: int) -> HttpResponse:
        """The same as PUT."""
        return self.operate(request, video)

    @extend_schema(
        operation_id="undislike",
        summary="Take a dislike back",
        description="Takes the caller's mark back: a dislike, and a like too. Repeats change nothing.",
        responses=_WRITTEN,
    )
    def delete(self, request: Request, video: int) -> HttpResponse:
        """Take the mark back."""
        return self.operate(request, video)


class LikersView(BaseView):
    """Who likes a video."""

    pagination_class = KeysetPagination
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="likers_list",
        summary="Who likes it",
        description=(
            "Newest first, the last likes and unlikes included. For the video's owner, and for users with the "
            "permission videos.view_videolike; for everyone or for nobody else, if the operator says so "
            "(VIDEOS_LIKERS)."
        ),
        responses=responses({200: LikerSerializer(many=True)}, 400, 401, 403, 404),
    )
    def get(self, request: Request, video: int) -> HttpResponse:
        """A page of users."""
        if conf.LIKERS != "everyone":
            owner_id = services.read_video(video_id=video).owner_id
            require(request, "videos.view_videolike", owner_id=owner_id if conf.LIKERS == "owner" else None)
        pages = KeysetPagination()
        window = pages.begin(request.query_params, request.build_absolute_uri())
        found = services.likers(video_id=video, user_id=user_id_of(request), window=window)
        likes = pages.end(found.likes, lambda like: Position(like.at, like.id))
        names = services.usernames(user_ids=[like.id for like in likes])
        data = [
            {"user": like.id, "username": names[like.id], "created_at": time_text(like.at)}
            for like in likes
            if like.id in names
        ]
        return render(json_answer(pages.page_data(data), stored=found.stored))


class MyLikesView(BaseView):
    """What the caller likes."""

    pagination_class = KeysetPagination
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="my_likes_list",
        summary="What I like",
        description="Newest first, the caller's last likes and unlikes included.",
        responses=responses({200: LikedVideoSerializer(many=True)}, 400, 401),
    )
    def get(self, request: Request) -> HttpResponse:
        """A page of videos, with when they were liked."""
        user_id = cast(int, request.user.pk)
        pages = KeysetPagination()
        window = pages.begin(request.query_params, request.build_absolute_uri())
        found = services.liked_videos(user_id=user_id, window=window)
        likes = pages.end(found.likes, lambda like: Position(like.at, like.id))
        rows = services.read_videos(video_ids=[like.id for like in likes])
        counts = services.overlay_rows(rows=rows.values(), user_id=user_id)
        # Redis may know that a video is unliked although its note of this has expired: leave the video out.
        kept = [like for like in likes if like.id in rows and counts.by_video[like.id].liked]
        data = [
            {"created_at": time_text(like.at), "video": video}
            for like, video in zip(kept, video_data([rows[like.id] for like in kept], counts), strict=True)
        ]
        return render(json_answer(pages.page_data(data), stored=found.stored or counts.stored))
