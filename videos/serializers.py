"""What goes over the wire: the shapes of requests and answers, and the quick way through for the common ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, ClassVar, Final, NamedTuple

from django.db import DatabaseError
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from videos import services
from videos.changes import COLUMNS, MAX_ID
from videos.conf import conf
from videos.models import Video
from videos.services import VideoRow
from videos.viewers import VIEWER_PATTERN

MAX_EVENTS: Final = 1000
MAX_DURATION_SECONDS: Final = 2**31 - 1
CLOCK_SKEW_SECONDS: Final = 60  # how far in the future a trusted client's clock may be

_encode = json.JSONEncoder(separators=(",", ":")).encode
_encode_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class _StrictField(serializers.Field[Any, Any, Any, Any]):
    """Takes the JSON type that the schema names: 17 is no text, "17" and true are no numbers."""

    json_types: ClassVar[frozenset[type]]

    def to_internal_value(self, data: Any) -> Any:
        """Raises ValidationError."""
        if type(data) not in self.json_types:
            self.fail("invalid")
        return super().to_internal_value(data)


class TextField(_StrictField, serializers.CharField):
    """Text."""

    json_types = frozenset({str})


class PatternField(_StrictField, serializers.RegexField):
    """Text of a pattern."""

    json_types = frozenset({str})


class UrlField(_StrictField, serializers.URLField):
    """A URL."""

    json_types = frozenset({str})


class WholeField(_StrictField, serializers.IntegerField):
    """A whole number."""

    json_types = frozenset({int, float})


class NumberField(_StrictField, serializers.FloatField):
    """A finite number."""

    json_types = frozenset({int, float})


class VideoSerializer(serializers.ModelSerializer[Video]):
    """A video, with the numbers now."""

    # They come from the context: `services.Counts` under "counts", read at once for all of a page.

    title = TextField(max_length=200)
    description = TextField(max_length=5000, required=False, allow_blank=True)
    url = UrlField(max_length=500)
    duration = WholeField(
        min_value=0, max_value=MAX_DURATION_SECONDS, default=0, help_text="Seconds; 0 where it is not known."
    )
    like_count = serializers.SerializerMethodField(help_text="Likes now.")
    view_count = serializers.SerializerMethodField(help_text="Views now.")
    liked = serializers.SerializerMethodField(help_text="Whether the caller likes it; null for an anonymous one.")

    class Meta:
        model = Video
        fields: ClassVar = [
            *("id", "title", "description", "url", "duration", "owner", "created_at"),
            *("like_count", "view_count", "liked"),
        ]
        read_only_fields: ClassVar = ["owner", "created_at"]

    def get_like_count(self, video: Video) -> int:
        """Likes now; of a video that was deleted meanwhile, the row's."""
        count = self._count(video)
        return (video.totals if count is None else count.totals).likes

    def get_view_count(self, video: Video) -> int:
        """Views now."""
        count = self._count(video)
        return (video.totals if count is None else count.totals).views

    @extend_schema_field({"type": "boolean", "nullable": True})
    def get_liked(self, video: Video) -> bool | None:
        """Whether the caller likes it."""
        count = self._count(video)
        return count.liked if count else None

    def _count(self, video: Video) -> services.VideoCounts | None:
        counts: services.Counts = self.context["counts"]
        return counts.by_video.get(video.pk)

    def update(self, instance: Video, validated_data: dict[str, Any]) -> Video:
        """Write what was sent only, so that two editors of two fields both win.

        Raises VideoNotFound when it was deleted meanwhile.
        """
        for name, value in validated_data.items():
            setattr(instance, name, value)
        try:
            instance.save(update_fields=list(validated_data))
        except DatabaseError as error:
            if error.__cause__ is not None:  # the database's own; without a cause it is Django's: no row was there
                raise
            raise services.VideoNotFound from error
        return instance


class CountSerializer(serializers.Serializer[Any]):
    """The numbers of a video now."""

    id = serializers.IntegerField()
    like_count = serializers.IntegerField()
    view_count = serializers.IntegerField()
    liked = serializers.BooleanField(allow_null=True, help_text="null for an anonymous caller.")


class LikeSerializer(serializers.Serializer[Any]):
    """Whether the caller likes a video, and how many do."""

    id = serializers.IntegerField()
    liked = serializers.BooleanField(allow_null=True, help_text="null for an anonymous caller.")
    like_count = serializers.IntegerField()


class LikerSerializer(serializers.Serializer[Any]):
    """Who likes a video, since when."""

    user = serializers.IntegerField()
    username = serializers.CharField()
    created_at = serializers.DateTimeField()


class LikedVideoSerializer(serializers.Serializer[Any]):
    """A video that the caller likes, since when."""

    created_at = serializers.DateTimeField()
    video = VideoSerializer()


class ViewSerializer(serializers.Serializer[Any]):
    """A view, as a player reports it."""

    viewer = PatternField(
        VIEWER_PATTERN.pattern.join(("^", r"\Z")),
        required=False,
        allow_null=True,
        help_text="A random id that the client keeps, so that its views are told from others of its address.",
        error_messages={"invalid": "1 to 64 of the characters A-Z a-z 0-9 _ . : + / = ~ -"},
    )
    watched = NumberField(required=False, allow_null=True, min_value=0, help_text="Seconds watched.")


class ViewResultSerializer(serializers.Serializer[Any]):
    """What became of a view."""

    id = serializers.IntegerField()
    counted = serializers.BooleanField()
    reason = serializers.ChoiceField(choices=["new", "seen", "bot", "short", "owner", "address"])
    view_count = serializers.IntegerField()


class ViewEventSerializer(ViewSerializer):
    """A view, as a trusted client reports it for somebody else."""

    video = WholeField(help_text="Its id; one that does not exist is ignored as absent.")
    at = serializers.DateTimeField(
        required=False, allow_null=True, default_timezone=UTC, help_text="When it was; now where it is left out."
    )

    def get_fields(self) -> dict[str, Any]:
        """The viewer is required: it cannot be told from the request."""
        fields = super().get_fields()
        fields["viewer"].required, fields["viewer"].allow_null = True, False
        return fields

    def validate_at(self, at: datetime | None) -> datetime | None:
        """Views of the future, and those too old for the hours they belong to, are refused."""
        if at is not None:
            age = timezone.now() - at
            if age < -timedelta(seconds=CLOCK_SKEW_SECONDS):
                raise ValidationError("Must not be in the future.")
            if age > timedelta(seconds=conf.VIEW_MAX_AGE_SECONDS):
                raise ValidationError(f"Must not be older than {conf.VIEW_MAX_AGE_SECONDS} seconds.")
        return at


class ViewEventsSerializer(serializers.Serializer[Any]):
    """A batch of views."""

    events = serializers.ListField(child=ViewEventSerializer(), max_length=MAX_EVENTS)


class ViewSumsSerializer(serializers.Serializer[Any]):
    """What became of a batch of views."""

    counted = serializers.IntegerField()
    ignored = serializers.DictField(child=serializers.IntegerField(), help_text="How many for each reason.")


class ErrorSerializer(serializers.Serializer[Any]):
    """Why not."""

    detail = serializers.CharField()


class SentEvent(NamedTuple):
    """A view of a batch, checked."""

    video: int
    viewer: str
    watched: float | None
    at_ms: int | None


def read_view(data: Any) -> tuple[str | None, float | None]:
    """Viewer and seconds watched of a view's body. Raises ValidationError.

    The usual body needs no serializer, which would cost as much as counting the view; every other goes through it.
    """
    if type(data) is dict:
        viewer, watched = data.get("viewer"), data.get("watched")
        if _is_viewer(viewer) and _is_seconds(watched):
            return viewer, watched
    checked = _checked(ViewSerializer(data=data))
    return checked.get("viewer"), checked.get("watched")


def video_data(rows: Iterable[VideoRow], counts: services.Counts) -> list[dict[str, Any]]:
    """Videos with the numbers now, as VideoSerializer shows them, which takes twenty times as long for a page."""
    zone, by_video = timezone.get_current_timezone(), counts.by_video
    in_utc = str(zone) == "UTC"  # as rows are: nothing to convert
    data = []
    for video, title, description, url, duration, owner, created_at, stored in rows:
        totals, liked = by_video.get(video) or (stored, None)  # deleted meanwhile: the row's
        data.append({
            "id": video,
            "title": title,
            "description": description,
            "url": url,
            "duration": duration,
            "owner": owner,
            "created_at": (
                f"{created_at.isoformat()[:-6]}Z"
                if in_utc and created_at.tzinfo is UTC
                else _time(created_at, zone)
            ),
            **dict(zip(COLUMNS, totals, strict=True)),
            "liked": liked,
        })  # fmt: skip
    return data


def _time(at: datetime, zone: tzinfo) -> str:
    text = at.astimezone(zone).isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def count_data(counts: services.Counts) -> list[dict[str, Any]]:
    """Numbers of videos, as CountSerializer describes them."""
    return [
        {"id": video_id, **dict(zip(COLUMNS, count.totals, strict=True)), "liked": count.liked}
        for video_id, count in counts.by_video.items()
    ]


def json_body(data: Any) -> bytes:
    """JSON in the very bytes that Django REST framework's renderer makes of it."""
    return _encode_text(data).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def like_body(like: services.Like) -> bytes:
    """What a like, an unlike and the question for it are answered with."""
    return _encode({"id": like.video_id, "liked": like.liked, "like_count": like.likes}).encode()


def view_body(view: services.View) -> bytes:
    """What became of a view."""
    answer = {"id": view.video_id, "counted": view.counted, "reason": view.reason, "view_count": view.views}
    return _encode(answer).encode()


def view_sums_body(sums: services.ViewSums) -> bytes:
    """What became of a batch of views."""
    return _encode({"counted": sums.counted, "ignored": sums.ignored}).encode()


def read_events(data: Any) -> list[SentEvent]:
    """The events of a batch's body. Raises ValidationError, which names each faulty event by its place."""
    if type(data) is not dict or type(data.get("events")) is not list or len(data["events"]) > MAX_EVENTS:
        _checked(_EventsEnvelope(data=data))
        raise ValidationError({"events": ["Must be a list."]})
    now = time.time()
    span_ms = (now - conf.VIEW_MAX_AGE_SECONDS) * 1000, (now + CLOCK_SKEW_SECONDS) * 1000
    events: list[SentEvent] = []
    faults: dict[str, Any] = {}
    for i, sent in enumerate(data["events"]):
        event = _quick_event(sent, span_ms)
        if event is None:
            serializer = ViewEventSerializer(data=sent)
            if not serializer.is_valid():
                faults[str(i)] = serializer.errors
                continue
            event = _event_of(serializer.validated_data)
        events.append(event)
    if faults:
        raise ValidationError({"events": faults})
    return events


class _EventsEnvelope(serializers.Serializer[Any]):
    events = serializers.ListField(max_length=MAX_EVENTS)  # of anything: each is judged by itself


def _quick_event(sent: Any, span_ms: tuple[float, float]) -> SentEvent | None:
    if type(sent) is not dict:
        return None
    video, viewer, watched, at = sent.get("video"), sent.get("viewer"), sent.get("watched"), sent.get("at")
    if type(video) is not int or viewer is None or not _is_viewer(viewer) or not _is_seconds(watched):
        return None
    at_ms = None
    if at is not None:
        at_ms = _quick_ms(at)
        if at_ms is None or not span_ms[0] <= at_ms <= span_ms[1]:
            return None
    return SentEvent(video, viewer, watched, at_ms)


def _quick_ms(at: Any) -> int | None:
    """Unix milliseconds of a full date with its zone; None for anything else, which the serializer judges."""
    if type(at) is not str or len(at) < 20 or at[10] != "T":
        return None
    try:
        moment = datetime.fromisoformat(at)
        return None if moment.tzinfo is None else int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _event_of(checked: dict[str, Any]) -> SentEvent:
    at = checked.get("at")
    return SentEvent(
        checked["video"], checked["viewer"], checked.get("watched"), None if at is None else int(at.timestamp() * 1000)
    )


def _is_viewer(viewer: Any) -> bool:
    return viewer is None or (type(viewer) is str and VIEWER_PATTERN.fullmatch(viewer) is not None)


def _is_seconds(watched: Any) -> bool:
    return watched is None or (type(watched) in {int, float} and 0 <= watched < 1e12)


def _checked(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    checked: dict[str, Any] = serializer.validated_data
    return checked


def read_ids(text: str | None, *, most: int = 100) -> list[int]:
    """Video ids out of `1,2,3`, each once, in their order, those beyond BIGINT left out. Raises ValidationError."""
    words = [word.strip() for word in (text or "").split(",", most)]
    if len(words) > most:
        raise ValidationError({"ids": [f"At most {most} ids."]})
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise ValidationError({"ids": ["Must be numbers with commas between them, like 1,2,3."]})
    ids = (int(word) for word in words if len(word) <= 19)
    return list(dict.fromkeys(video for video in ids if video <= MAX_ID))
