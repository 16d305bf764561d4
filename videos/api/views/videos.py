"""Videos: lists of them, one of them, the numbers of many."""

from typing import cast

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import AllowAny, IsAuthenticatedOrReadOnly
from rest_framework.request import Request
from rest_framework.response import Response

from videos import services
from videos.api.base import BaseView, require
from videos.api.bodies import SEARCH_CHARACTERS
from videos.api.errors import render
from videos.api.operations import video_answer
from videos.api.pagination import VideoPagination
from videos.api.shapes import BODY_ERRORS, CountSerializer, VideoSerializer, responses
from videos.api.throttling import ScopeThrottle


class VideosView(BaseView):
    """The videos."""

    address = "videos"
    pagination_class = VideoPagination
    query_parameters = frozenset({"ordering", "search"})
    permission_classes = (IsAuthenticatedOrReadOnly,)
    throttle_classes = (ScopeThrottle,)
    throttle_scope = "write"

    @extend_schema(
        operation_id="videos_list",
        summary="List videos",
        description="Newest first, or by counts: those order as of the last flush, while the numbers shown are live.",
        parameters=[
            OpenApiParameter("ordering", enum=list(VideoPagination.orderings)),
            OpenApiParameter(
                "search",
                type={"type": "string", "maxLength": SEARCH_CHARACTERS, "pattern": r"^[^\u0000]*$"},
                description="Beginnings of words of the title or the description; the first 10 count.",
            ),
        ],
        responses=responses({200: VideoSerializer(many=True)}, 400, 401, 429),
    )
    def get(self, request: Request) -> HttpResponse:
        """A page of videos."""
        return self.operate(request)

    @extend_schema(
        operation_id="videos_create",
        summary="Add a video of one's own",
        request=VideoSerializer,
        responses=responses({201: VideoSerializer}, *BODY_ERRORS, 401, 403, 429),
    )
    def post(self, request: Request) -> HttpResponse:
        """Add a video of the caller's."""
        sent = VideoSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        user_id = cast(int, request.user.pk)
        row = services.add_video(owner_id=user_id, values=sent.validated_data)
        return render(video_answer(row, user_id, status=201))


class OneVideoView(BaseView):
    """A video."""

    address = "video"
    permission_classes = (IsAuthenticatedOrReadOnly,)
    throttle_classes = (ScopeThrottle,)
    throttle_scope = "write"

    @extend_schema(
        operation_id="videos_retrieve", summary="One video", responses=responses({200: VideoSerializer}, 401, 404)
    )
    def get(self, request: Request, video: int) -> HttpResponse:
        """Its row, with the numbers now."""
        return self.operate(request, video)

    @extend_schema(
        operation_id="videos_update",
        summary="Edit a video of one's own, or any with the permission videos.change_video",
        request=VideoSerializer,
        responses=responses({200: VideoSerializer}, *BODY_ERRORS, 401, 403, 404, 429),
    )
    def patch(self, request: Request, video: int) -> HttpResponse:
        """Edit what was sent."""
        require(request, "videos.change_video", owner_id=services.read_video(video_id=video).owner_id)
        sent = VideoSerializer(data=request.data, partial=True)
        sent.is_valid(raise_exception=True)
        row = services.edit_video(video_id=video, values=sent.validated_data)
        return render(video_answer(row, request.user.pk))

    @extend_schema(
        operation_id="videos_delete",
        summary="Delete a video of one's own, or any with the permission videos.delete_video",
        responses=responses({204: None}, 401, 403, 404, 429),
    )
    def delete(self, request: Request, video: int) -> Response:
        """Delete it, with its likes and its history."""
        require(request, "videos.delete_video", owner_id=services.read_video(video_id=video).owner_id)
        services.delete_video(video_id=video)
        return Response(status=204)


class CountsView(BaseView):
    """The numbers of many videos at once."""

    address = "counts"
    query_parameters = frozenset({"ids"})
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="videos_counts",
        summary="Numbers of up to 100 videos",
        description="Unknown ids are left out.",
        parameters=[
            OpenApiParameter(
                "ids",
                type={"type": "string", "pattern": "^[0-9]+(,[0-9]+){0,99}$"},
                required=True,
                description="Ids with commas between them: 1,2,3",
            )
        ],
        responses=responses({200: CountSerializer(many=True)}, 400, 401),
    )
    def get(self, request: Request) -> HttpResponse:
        """In the order of the ids asked for."""
        return self.operate(request)
