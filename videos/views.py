"""HTTP: each view parses, calls one service, renders."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, cast

from django.contrib.auth import get_user_model
from django.core.exceptions import RequestDataTooBig
from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models import Q, QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponsePermanentRedirect,
    JsonResponse,
    UnreadablePostError,
)
from django.urls import Resolver404, is_valid_path
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import TemplateView
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import generics, status
from rest_framework.exceptions import APIException, AuthenticationFailed, NotFound, ParseError, ValidationError
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.views import exception_handler as default_exception_handler

from videos import express, serializers, services, throttling, viewers
from videos.api.authentication import SessionAuthentication, TokenAuthentication
from videos.changes import MAX_ID
from videos.conf import conf
from videos.models import Video, VideoLike
from videos.negotiation import PreparedNegotiation, StrictJSONParser, read_json
from videos.pagination import EPOCH, KeysetPagination, VideoPagination
from videos.services import VideoRow

logger = logging.getLogger(__name__)


class ServiceUnavailable(APIException):
    """Try again in a moment."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Counts cannot be taken or read just now; try again in a moment."
    default_code = "unavailable"

    def __init__(self) -> None:
        super().__init__()
        self.wait = conf.RETRY_AFTER_SECONDS  # what Django REST framework makes Retry-After of


class PayloadTooLarge(APIException):
    """The body is larger than DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The request's body is too large."
    default_code = "too_large"


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Answer this app's and its servers' errors; all others as Django REST framework does."""
    if isinstance(error, services.VideoNotFound):
        error = NotFound("No such video.")
    elif isinstance(error, services.UserNotFound):
        error = _unauthenticated("The user of this token is gone.", context.get("view"))
    elif isinstance(error, services.Unavailable | OperationalError | InterfaceError):
        logger.warning("Answered 503: %s", error.__cause__ or error)
        error = ServiceUnavailable()
    elif isinstance(error, RequestDataTooBig):
        error = PayloadTooLarge()
    elif isinstance(error, UnreadablePostError):
        error = ParseError("The request's body ended early.")
    return default_exception_handler(error, context)


def _unauthenticated(detail: str, view: Any) -> AuthenticationFailed:
    error = AuthenticationFailed(detail)
    error.auth_header = TokenAuthentication().authenticate_header(view.request)  # type: ignore[attr-defined]
    return error


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith("/api/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """400 outside of views: JSON under /api/, Django's page elsewhere."""
    if _is_api(request):
        too_big = isinstance(exception, RequestDataTooBig)
        return JsonResponse({"detail": "Bad request."}, status=413 if too_big else 400)
    return defaults.bad_request(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """404 for paths that no view has."""
    if _is_api(request):
        return JsonResponse({"detail": "Not found."}, status=404)
    return defaults.page_not_found(request, exception)


@csrf_exempt
def without_slash(request: HttpRequest) -> HttpResponseBase:
    """Paths end with a slash. Readers are sent there; writers are told, since a redirect loses method and body."""
    if not is_valid_path(f"{request.path_info}/"):
        return page_not_found(request, Resolver404())
    if request.method in {"GET", "HEAD"}:
        return HttpResponsePermanentRedirect(request.get_full_path(force_append_slash=True))
    return JsonResponse({"detail": f"Not found. The path ends with a slash: {request.path}/"}, status=404)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """500, which is a fault of ours."""
    if _is_api(request):
        return JsonResponse({"detail": "Internal server error."}, status=500)
    return defaults.server_error(request)


# Instances that keep no state between requests, made once instead of for each request.
_AUTHENTICATORS = [TokenAuthentication(), SessionAuthentication()]
_RENDERERS = [JSONRenderer()]
_PARSERS = [StrictJSONParser()]
_NEGOTIATION = PreparedNegotiation()


class ApiView(APIView):
    """What all views of the API share."""

    def get_authenticators(self) -> list[Any]:
        """Prepared once."""
        return _AUTHENTICATORS

    def get_renderers(self) -> list[Any]:
        """Prepared once."""
        return _RENDERERS

    def get_parsers(self) -> list[Any]:
        """Prepared once."""
        return _PARSERS

    def get_content_negotiator(self) -> PreparedNegotiation:
        """Prepared once."""
        return _NEGOTIATION

    allow: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Name the methods once: they are the same for each request."""
        super().__init_subclass__(**kwargs)
        has = {name for name in cls.http_method_names if hasattr(cls, name)} | (
            {"head"} if hasattr(cls, "get") else set()
        )
        cls.allow = ", ".join(name.upper() for name in cls.http_method_names if name in has)

    @property
    def default_response_headers(self) -> dict[str, str]:
        """What is on every answer."""
        return {"Allow": self.allow}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let in whom the permissions and throttles let in; ids that no row can have are not found."""
        error = request.META.get(express.ERROR)
        if error is not None:  # the express lane was let in, and a service refused: nothing is tried again
            raise error
        if kwargs.get("video", 0) > MAX_ID:
            raise NotFound("No such video.")
        super().initial(request, *args, **kwargs)


def _sent(request: Request) -> Any:
    """The body's value, as `request.data`, without the way through its kinds of forms."""
    plain = request._request
    if plain.META.get("CONTENT_TYPE") == "application/json":
        body = plain.body
        return read_json(body) if body else {}
    return request.data


def _user_id(request: Request) -> int | None:
    user = request.user
    return user.pk if user.is_authenticated else None


def _signed_in(request: Request) -> int:
    return cast(int, request.user.pk)


def _answer(body: bytes, *, stored: bool) -> HttpResponse:
    """JSON without a renderer's detour: the hot path has one shape of answer."""
    response = HttpResponse(body, content_type="application/json")
    if stored:
        response.headers[express.COUNTS_HEADER] = "stored"
    return response


def _mark(response: Response, *read: services.Counts | services.RecentLikes) -> Response:
    if any(part.stored for part in read):
        response.headers[express.COUNTS_HEADER] = "stored"
    return response


_ERRORS = {
    400: "Malformed.",
    401: "No token, or not a valid one.",
    403: "Not allowed.",
    404: "No such video.",
    406: "Only JSON is spoken here.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too often; see Retry-After.",
    503: "Away for a moment; see Retry-After.",
}


def _responses(good: Mapping[int, Any], *bad: int) -> dict[int, Any]:
    errors = {
        code: OpenApiResponse(
            OpenApiTypes.OBJECT if code == 400 else serializers.ErrorSerializer, description=_ERRORS[code]
        )
        for code in sorted({406, 503, *bad})
    }
    return {**good, **errors}


_BODY = (400, 413, 415, 429)


class IsOwnerOrStaff(BasePermission):
    """Videos are edited and deleted by whom they belong to, and by staff."""

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        """Whether this caller may change this video."""
        return request.method in {"GET", "HEAD", "OPTIONS"} or obj.owner_id == request.user.pk or request.user.is_staff


class MaySendViews(IsAuthenticated):
    """Staff, and clients with the permission videos.send_views."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether this caller may speak for other viewers."""
        user = request.user
        return super().has_permission(request, view) and (user.is_staff or user.has_perm("videos.send_views"))


class VideoView(ApiView, generics.GenericAPIView[Video]):
    """What the views of videos share: rows with the numbers that are live now."""

    queryset = Video.objects.all()
    serializer_class = serializers.VideoSerializer
    permission_classes: Sequence[type[BasePermission]] = (IsAuthenticatedOrReadOnly, IsOwnerOrStaff)
    throttle_classes = (throttling.WriteThrottle,)
    lookup_url_kwarg = "video"

    def render(self, rows: Sequence[VideoRow]) -> tuple[list[dict[str, Any]], services.Counts]:
        """Videos as they go out, and where their numbers came from: one read for all of them."""
        counts = services.overlay_rows(rows=rows, user_id=_user_id(self.request))
        return serializers.video_data(rows, counts), counts

    def answer(self, video: Video, *, status: int = 200) -> Response:
        """One video as it goes out."""
        (data,), counts = self.render([VideoRow.of(video)])
        return _mark(Response(data, status=status), counts)


@extend_schema_view(
    get=extend_schema(
        operation_id="videos_list",
        summary="List videos",
        description="Newest first, or by counts: those order as of the last flush, while the numbers shown are live.",
        parameters=[
            OpenApiParameter("ordering", enum=list(VideoPagination.orderings)),
            OpenApiParameter("search", description="Words that the title or the description contains."),
        ],
        responses=_responses({200: serializers.VideoSerializer(many=True)}, 400, 401),
    ),
    post=extend_schema(
        operation_id="videos_create",
        summary="Add a video of one's own",
        responses=_responses({201: serializers.VideoSerializer}, *_BODY, 401, 403),
    ),
)
class VideosView(VideoView):
    """The videos."""

    pagination_class = VideoPagination

    def get(self, request: Request) -> Response:
        """A page of videos."""
        words = self._words(request.query_params.get("search", ""))
        pages = cast(VideoPagination, self.paginator)
        rows = (
            [VideoRow.of(video) for video in pages.paginate_queryset(self._found(words), request)]
            if words
            else pages.paginate_all(request)
        )
        data, counts = self.render(rows)
        return _mark(pages.get_paginated_response(data), counts)

    def post(self, request: Request) -> Response:
        """Add a video of the caller's."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        owner = get_user_model().objects.filter(pk=_signed_in(request), is_active=True).first()
        if owner is None:
            raise services.UserNotFound
        try:
            video = serializer.save(owner=owner)
        except IntegrityError as error:  # deleted just now
            raise services.UserNotFound from error
        return self.answer(video, status=201)

    def _words(self, search: str) -> list[str]:
        if len(search) > 200 or "\0" in search:
            raise ValidationError({"search": ["At most 200 characters, no null characters."]})
        return search.split()[:10]

    def _found(self, words: Iterable[str]) -> QuerySet[Video, Any]:
        videos = self.get_queryset()
        for word in words:
            videos = videos.filter(Q(title__icontains=word) | Q(description__icontains=word))
        return videos


@extend_schema_view(
    get=extend_schema(
        operation_id="videos_retrieve",
        summary="One video",
        responses=_responses({200: serializers.VideoSerializer}, 401, 404),
    ),
    patch=extend_schema(
        operation_id="videos_update",
        summary="Edit a video of one's own",
        responses=_responses({200: serializers.VideoSerializer}, *_BODY, 401, 403, 404),
    ),
    delete=extend_schema(
        operation_id="videos_delete",
        summary="Delete a video of one's own",
        responses=_responses({204: None}, 401, 403, 404, 429),
    ),
)
class OneVideoView(VideoView):
    """A video."""

    def get(self, request: Request, video: int) -> Response:
        """Its row, with the numbers now."""
        return self.answer(self.get_object())

    def patch(self, request: Request, video: int) -> Response:
        """Edit what was sent."""
        row = self.get_object()
        serializer = self.get_serializer(row, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        return self.answer(serializer.save())

    def delete(self, request: Request, video: int) -> Response:
        """Delete it, with its likes and its history."""
        self.get_object().delete()
        return Response(status=204)


class CountsView(ApiView):
    """The numbers of many videos at once."""

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
        responses=_responses({200: serializers.CountSerializer(many=True)}, 400, 401),
    )
    def get(self, request: Request) -> HttpResponse:
        """In the order of the ids asked for."""
        ids = serializers.read_ids(request.query_params.get("ids"))
        counts = services.read_counts(video_ids=ids, user_id=_user_id(request))
        return _mark(Response(serializers.count_data(counts)), counts)


_LIKE_RESPONSES = _responses({200: serializers.LikeSerializer}, 401, 404)
_LIKED_RESPONSES = _responses({200: serializers.LikeSerializer}, 401, 403, 404, 429)


class LikeView(ApiView):
    """The caller's like of a video."""

    permission_classes = (IsAuthenticatedOrReadOnly,)
    throttle_classes = (throttling.LikeThrottle,)

    @extend_schema(operation_id="like_retrieve", summary="Do I like it?", responses=_LIKE_RESPONSES)
    def get(self, request: Request, video: int) -> HttpResponse:
        """Whether the caller likes it, the last wish included."""
        return self._answer(services.get_like(video_id=video, user_id=_user_id(request)))

    @extend_schema(operation_id="like", summary="Like", request=None, responses=_LIKED_RESPONSES)
    def put(self, request: Request, video: int) -> HttpResponse:
        """Like it. Repeats change nothing."""
        return self._answer(services.set_like(video_id=video, user_id=_signed_in(request), liked=True))

    @extend_schema(operation_id="like_post", summary="Like", request=None, responses=_LIKED_RESPONSES)
    def post(self, request: Request, video: int) -> HttpResponse:
        """The same as PUT."""
        return self.put(request, video)

    @extend_schema(operation_id="unlike", summary="Unlike", responses=_LIKED_RESPONSES)
    def delete(self, request: Request, video: int) -> HttpResponse:
        """Like it no more. Repeats change nothing."""
        return self._answer(services.set_like(video_id=video, user_id=_signed_in(request), liked=False))

    def _answer(self, like: services.Like) -> HttpResponse:
        return _answer(serializers.like_body(like), stored=like.stored)


class ViewView(ApiView):
    """Views of a video."""

    permission_classes = (AllowAny,)
    throttle_classes = (throttling.ViewThrottle,)

    @extend_schema(
        operation_id="view",
        summary="Count a view",
        description=(
            "Counts once for a viewer in a window. `reason` is `new` where it counted, else why it did not: `seen` in "
            "this window, a `bot`, too `short`, the `owner`, or too many from one `address`."
        ),
        request=serializers.ViewSerializer,
        responses=_responses({200: serializers.ViewResultSerializer}, *_BODY, 401, 404),
    )
    def post(self, request: Request, video: int) -> HttpResponse:
        """Count it, or say why not."""
        sent, watched = serializers.read_view(_sent(request))
        user = _user_id(request)
        viewer = viewers.viewer_of(
            request._request.META,
            user=user,
            sent=sent,
        )
        event = services.ViewEvent(
            video_id=video, viewer=viewer.name, user_id=user, watched=watched, address=viewer.address, bot=viewer.bot
        )
        view = services.record_view(event=event)
        return _answer(serializers.view_body(view), stored=view.stored)


class ViewsView(ApiView):
    """Views that a trusted client gathered: a player's backend, an importer."""

    permission_classes = (MaySendViews,)

    @extend_schema(
        operation_id="views",
        summary="Count up to 1,000 views",
        description=(
            "For staff and for clients with the permission videos.send_views. They speak for others, so neither their "
            "address nor their user agent matters. Views of videos that do not exist are ignored as `absent`. Sent "
            "again after a 503, what had counted is `seen`."
        ),
        request=serializers.ViewEventsSerializer,
        responses=_responses({200: serializers.ViewSumsSerializer}, 400, 401, 403, 413, 415),
    )
    def post(self, request: Request) -> HttpResponse:
        """Count them in one round trip."""
        sent = serializers.read_events(_sent(request))
        events = [
            services.ViewEvent(event.video, event.viewer, None, event.watched, event.at_ms)
            for event in sent
            if 0 < event.video <= MAX_ID
        ]
        sums = services.record_views(events=events) if events else services.ViewSums(0, {})
        if len(events) < len(sent):
            absent = sums.ignored.get("absent", 0) + len(sent) - len(events)
            sums = replace(sums, ignored={**sums.ignored, "absent": absent})
        return _answer(serializers.view_sums_body(sums), stored=sums.stored)


class LikersView(ApiView, generics.GenericAPIView[VideoLike]):
    """Who likes a video."""

    queryset = VideoLike.objects.all()
    serializer_class = serializers.LikerSerializer
    pagination_class = KeysetPagination
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="likers_list",
        summary="Who likes it",
        description="Newest first, as of the last flush, and the caller's own like as it is now.",
        responses=_responses({200: serializers.LikerSerializer(many=True)}, 400, 401, 404),
    )
    def get(self, request: Request, video: int) -> Response:
        """A page of users."""
        if not Video.objects.filter(pk=video).exists():
            raise services.VideoNotFound
        likes = VideoLike.objects.filter(video=video)
        recent = _recent(_user_id(request))
        own = [like for like in recent.likes if like.video_id == video]
        if own and not own[0].liked:
            likes = likes.exclude(user=_signed_in(request))
            own = []
        added = (
            {}
            if not own or likes.filter(user=_signed_in(request)).exists()
            else {_signed_in(request): _moment(own[0].at_ms)}
        )
        page = cast(KeysetPagination, self.paginator).paginate_merged(likes, added, request, tie="user_id")
        names = get_user_model().objects.in_bulk([user for _, user in page])
        rows = [
            {"user": user, "username": names[user].get_username(), "created_at": at}
            for at, user in page
            if user in names
        ]
        return _mark(self.get_paginated_response(serializers.LikerSerializer(rows, many=True).data), recent)


class MyLikesView(VideoView):
    """What the caller likes."""

    queryset = Video.objects.all()
    pagination_class = KeysetPagination
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="my_likes_list",
        summary="What I like",
        description="Newest first, the caller's last likes and unlikes included.",
        responses=_responses({200: serializers.LikedVideoSerializer(many=True)}, 400, 401),
    )
    def get(self, request: Request) -> Response:
        """A page of videos, with when they were liked."""
        user = _signed_in(request)
        recent = _recent(user)
        likes = VideoLike.objects.filter(user=user).exclude(
            video__in=[like.video_id for like in recent.likes if not like.liked]
        )
        added = {like.video_id: _moment(like.at_ms) for like in recent.likes if like.liked}
        for known in VideoLike.objects.filter(user=user, video__in=list(added)).values_list("video_id", flat=True):
            del added[known]
        page = cast(KeysetPagination, self.paginator).paginate_merged(likes, added, request, tie="video_id")
        rows = services.read_videos(video_ids=[video for _, video in page])
        data, counts = self.render([rows[video] for _, video in page if video in rows])
        times = {video: at for at, video in page}
        # What Redis knows to be unliked, though the hint of it has gone, is left out too.
        results = [{"created_at": times[video["id"]], "video": video} for video in data if video["liked"]]
        return _mark(self.get_paginated_response(results), counts, recent)


def _recent(user: int | None) -> services.RecentLikes:
    return services.RecentLikes() if user is None else services.recent_likes(user_id=user)


def _moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


class PageView(TemplateView):
    """The page: a small web player that uses the API as any client does."""

    template_name = "videos/page.html"
