"""History and statistics: of a video, of the caller's videos, of the site; what trends."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Final, cast

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request

from videos import services
from videos.api.answers import COUNTS_HEADER, json_answer, time_text
from videos.api.base import BaseView, require, throttle, user_id_of
from videos.api.errors import render
from videos.api.operations import trending_answer
from videos.api.pagination import TRENDING, TrendingPagination
from videos.api.shapes import OwnStatsSerializer, SiteStatsSerializer, StatsSerializer, VideoSerializer, responses
from videos.api.spans import DEFAULT_STEPS, MAX_STEPS, Span, parse_span
from videos.changes import COUNTS, PLACES

TOP_VIDEOS: Final = 10
_NAMES: Final = [count.name for count in COUNTS]
_SPAN: Final = [
    OpenApiParameter("step", enum=list(DEFAULT_STEPS), default="day", description=f"At most {MAX_STEPS} steps."),
    OpenApiParameter(
        "start",
        {"type": "string", "format": "start-of-span"},
        description="A date or a time (ISO 8601) before `end`; without a zone it is in `tz`.",
    ),
    OpenApiParameter(
        "end", {"type": "string", "format": "end-of-span"}, description="A date or a time as `start`; now by default."
    ),
    OpenApiParameter(
        "tz",
        {"type": "string", "format": "time-zone", "default": "UTC"},
        description="The IANA name of a time zone, whose days and months count.",
    ),
]
_ABOUT: Final = (
    "Counts are kept by hours of UTC. A bound that is not the beginning of one is moved to the next, as the answer "
    "shows. Before `hours_since` the gains of a day (UTC) may stand in its first hour."
)


def _answers(kind: Any, *bad: int) -> dict[Any, Any]:
    good: dict[Any, Any] = {(200, "application/json"): kind, (200, "text/csv"): OpenApiTypes.STR}
    return {**good, **responses({}, *bad)}


class CsvRenderer(BaseRenderer):
    """Lets the client ask for CSV. `_render` makes it."""

    media_type = "text/csv"
    format = "csv"


class _StatsView(BaseView):
    query_parameters = frozenset({*(parameter.name for parameter in _SPAN), "format"})
    renderer_classes: Any = (JSONRenderer, CsvRenderer)

    def options(self, request: Request, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # as Django REST framework has it
        """Describe the call as JSON, in whatever format its answers are asked for."""
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), "application/json"
        return super().options(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse another `format` than those two."""
        if request.query_params.get("format", "json") not in {"json", "csv"}:
            raise ValidationError({"format": ["Must be json or csv."]})
        super().initial(request, *args, **kwargs)


class VideoStatsView(_StatsView):
    """The history of a video's counts."""

    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="video_stats",
        summary="What a video gained, step by step",
        description=f"The last likes and views included. {_ABOUT}",
        parameters=_SPAN,
        responses=_answers(StatsSerializer, 400, 404, 429),
    )
    def get(self, request: Request, video: int) -> HttpResponse:
        """The gains of each step."""
        span = parse_span(request.query_params)
        throttle(request, "stats")
        history = services.video_history(video_id=video, bounds=span.bounds)
        return _render(request, span, history, f"video-{video}")


class MyStatsView(_StatsView):
    """What the caller's videos gained."""

    query_parameters = _StatsView.query_parameters | {"by"}
    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="my_stats",
        summary="What my videos gained, step by step",
        description=(
            "`before` is what they gained in as many hours before `start`; `top` are the videos that gained most. What "
            f"waits for the flush counts in this hour. {_ABOUT}"
        ),
        parameters=[*_SPAN, OpenApiParameter("by", enum=_NAMES, default="views", description="Orders `top`.")],
        responses=_answers(OwnStatsSerializer, 400, 401, 429),
    )
    def get(self, request: Request) -> HttpResponse:
        """The gains of each step, of the period before, and of the videos that gained most."""
        span = parse_span(request.query_params)
        by = request.query_params.get("by", "views")
        if by not in PLACES:
            raise ValidationError({"by": [f"Must be one of {', '.join(_NAMES)}."]})
        throttle(request, "stats")
        found = services.owner_history(owner_id=cast(int, user_id_of(request)), bounds=span.bounds)
        place = PLACES[by]
        most = sorted(found.by_video.items(), key=lambda pair: (-pair[1][place], -pair[0]))[:TOP_VIDEOS]
        top = {video_id: gains for video_id, gains in most if gains[place] > 0}
        rows = services.read_videos(video_ids=list(top))
        more = {
            "before": _by_name(found.before),
            "top": [
                {"id": video_id, "title": rows[video_id].title, **_by_name(gains)}
                for video_id, gains in top.items()
                if video_id in rows
            ],
        }
        return _render(request, span, found.history, "my-videos", **more)


class SiteStatsView(_StatsView):
    """What all videos gained."""

    permission_classes = (IsAuthenticated,)

    @extend_schema(
        operation_id="site_stats",
        summary="What all videos gained, step by step",
        description=(
            "For users with the permission videos.view_videohour. As of the last flush; deleted videos included. "
            "`before` is what they gained in as many hours before `start`. Each bound begins an hour of UTC."
        ),
        parameters=_SPAN,
        responses=_answers(SiteStatsSerializer, 400, 401, 403, 429),
    )
    def get(self, request: Request) -> HttpResponse:
        """The gains of each step, and of the period before."""
        require(request, "videos.view_videohour")
        span = parse_span(request.query_params)
        throttle(request, "stats")
        history, before = services.site_history(bounds=span.bounds)
        return _render(request, span, history, "site", before=_by_name(before))


class TrendingView(BaseView):
    """What trends."""

    pagination_class = TrendingPagination
    query_parameters = frozenset({"window"})
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="trending_list",
        summary="Videos that gained most views lately",
        description=(
            "As of the last flush, while the numbers shown are live. A view counts half after a quarter of the window, "
            "a quarter after half of it, and so on."
        ),
        parameters=[OpenApiParameter("window", enum=list(TRENDING), default="day")],
        responses=responses({200: VideoSerializer(many=True)}, 400, 401),
    )
    def get(self, request: Request) -> HttpResponse:
        """A page of videos."""
        window = request.query_params.get("window", "day")
        if window not in TRENDING:
            raise ValidationError({"window": [f"Must be one of {', '.join(TRENDING)}."]})
        pages = TRENDING[window]()
        part = pages.begin(request.query_params, request.build_absolute_uri())
        return render(trending_answer(pages, part, user_id_of(request)))


def _by_name(gains: Sequence[int]) -> dict[str, int]:
    return services.without_dislikes(dict(zip(_NAMES, gains, strict=True)))


def _render(request: Request, span: Span, history: services.History, name: str, **more: Any) -> HttpResponse:
    if cast(Any, request.accepted_renderer).format == "csv":
        return _csv(span, history, name)
    data = {
        "step": span.step,
        "tz": span.zone.key,
        "start": span.time_at(span.bounds[0]),
        "end": span.time_at(span.bounds[-1]),
        "hours_since": time_text(services.hours_kept_since(), span.zone),
        "sums": _by_name(history.sums),
        **more,
        "steps": [{"start": span.time_at(step.begin), **_by_name(step.gains)} for step in history.steps],
    }
    return render(json_answer(data, stored=history.stored))


def _csv(span: Span, history: services.History, name: str) -> HttpResponse:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["start", *_by_name(history.sums)])
    writer.writerows([span.time_at(step.begin), *_by_name(step.gains).values()] for step in history.steps)
    response = HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    if history.stored:
        response[COUNTS_HEADER] = "stored"
    return response
