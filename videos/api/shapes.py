"""The shapes of requests and answers as serializers: they check requests, and describe both for the schema."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

from django.core.validators import RegexValidator
from drf_spectacular.utils import OpenApiResponse, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from videos.api.viewers import VIEWER_PATTERN
from videos.changes import COUNTS, DISLIKE, LIKE, NOTHING
from videos.conf import conf
from videos.services import without_dislikes

RATINGS: Final[dict[int | None, str | None]] = {None: None, NOTHING: None, LIKE: "like", DISLIKE: "dislike"}
MAX_DESCRIPTION: Final = 5000
MAX_EVENTS: Final = 1000
MAX_DURATION_SECONDS: Final = 2**31 - 1
CLOCK_SKEW_SECONDS: Final = 60  # how far in the future a trusted client's clock may be
ERRORS: Final = {
    400: "Malformed.",
    401: "No token, or not a valid one.",
    403: "Not allowed.",
    404: "No such video.",
    406: "Only JSON is spoken here.",
    411: "The body has no Content-Length.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too often; see Retry-After.",
    503: "Away for a moment; see Retry-After.",
}
CODES: Final = frozenset({  # of errors; none is ever renamed
    *("invalid", "parse_error", "value_refused", "body_incomplete", "bad_request"),  # 400
    *("not_authenticated", "authentication_failed", "token_not_valid", "bad_authorization_header"),  # 401
    *("no_active_account", "user_not_found"),  # 401
    "permission_denied",  # 403
    *("video_not_found", "not_found"),  # 404
    *("method_not_allowed", "not_acceptable", "length_required", "body_too_large"),  # 405, 406, 411, 413
    *("unsupported_media_type", "throttled", "internal_error"),  # 415, 429, 500
    *("unavailable", "search_timeout", "busy"),  # 503
})  # fmt: skip
BODY_ERRORS: Final = (400, 411, 413, 415)


class _StrictField(serializers.Field[Any, Any, Any, Any]):
    """Accepts only the JSON type in the schema: 17 is no text, "17" and true are no numbers."""

    json_types: ClassVar[frozenset[type]] = frozenset({str})

    def to_internal_value(self, data: Any) -> Any:
        if type(data) not in self.json_types:
            self.fail("invalid")
        return super().to_internal_value(data)


class Described(RegexValidator):
    """Says in the schema what a field refuses by itself."""

    def __call__(self, value: Any) -> None:
        """Refuse nothing more."""


ANY_TEXT: Final = Described(r"^[^\x00]*\Z")
SOME_TEXT: Final = Described(r"^[^\x00]*[^\s\x00][^\x00]*\Z")


class TextField(_StrictField, serializers.CharField):
    """Text."""


@extend_schema_field({"type": "string", "maxLength": MAX_DESCRIPTION, "allOf": [{"pattern": r"^[^\u0000]*$"}]})
class DescriptionField(TextField):
    """Text that may be empty. Beside a plain pattern drf-spectacular would describe it twice, by a `oneOf`."""


class PatternField(_StrictField, serializers.RegexField):
    """Text of a pattern."""


class UrlField(_StrictField, serializers.URLField):
    """A URL."""


class WholeField(_StrictField, serializers.IntegerField):
    """A whole number."""

    json_types = frozenset({int, float})


class NumberField(_StrictField, serializers.FloatField):
    """A finite number."""

    json_types = frozenset({int, float})


def _rating() -> serializers.ChoiceField:
    return serializers.ChoiceField(
        choices=["like", "dislike"], read_only=True, allow_null=True, help_text="The caller's mark; null without one."
    )


class _WithDislikes(serializers.Serializer[Any]):
    def get_fields(self) -> dict[str, Any]:
        return without_dislikes(super().get_fields())


class _WithCounts(serializers.Serializer[Any]):
    """Adds a field for each of COUNTS, and the caller's mark on the video."""

    def get_fields(self) -> dict[str, Any]:
        counts = {
            count.column: serializers.IntegerField(read_only=True, help_text=f"{count.name.capitalize()} now.")
            for count in COUNTS
        }
        liked = serializers.BooleanField(
            read_only=True, allow_null=True, help_text="Whether the caller likes it; null for an anonymous one."
        )
        numbers: dict[str, Any] = {**counts, "liked": liked, "rating": _rating()}
        return super().get_fields() | without_dislikes(numbers)


class VideoSerializer(_WithCounts):
    """A video, with the numbers now."""

    id = serializers.IntegerField(read_only=True)
    title = TextField(max_length=200, validators=[SOME_TEXT])
    description = DescriptionField(max_length=MAX_DESCRIPTION, required=False, allow_blank=True)
    url = UrlField(
        max_length=500,
        help_text="http, https, ftp or ftps. A name of a host has 253 characters at most, and 63 between two dots.",
    )
    duration = WholeField(
        min_value=0, max_value=MAX_DURATION_SECONDS, default=0, help_text="Seconds; 0 where it is not known."
    )
    owner = serializers.IntegerField(read_only=True)
    created_at = serializers.DateTimeField(read_only=True)


class CountSerializer(_WithCounts):
    """The numbers of a video now."""

    id = serializers.IntegerField()


class LikeSerializer(_WithDislikes):
    """The caller's mark on a video, and how many like and dislike it."""

    id = serializers.IntegerField()
    liked = serializers.BooleanField(allow_null=True, help_text="null for an anonymous caller.")
    like_count = serializers.IntegerField()
    rating = _rating()
    dislike_count = serializers.IntegerField()


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

    def get_fields(self) -> dict[str, Any]:
        """The time watched is required if the operator says so (VIDEOS_VIEW_WATCHED_REQUIRED)."""
        fields = super().get_fields()
        fields["watched"].required, fields["watched"].allow_null = (
            conf.VIEW_WATCHED_REQUIRED,
            not conf.VIEW_WATCHED_REQUIRED,
        )
        return fields


class ViewResultSerializer(serializers.Serializer[Any]):
    """What became of a view."""

    id = serializers.IntegerField()
    counted = serializers.BooleanField()
    reason = serializers.ChoiceField(choices=["new", "seen", "bot", "short", "owner", "address", "full"])
    view_count = serializers.IntegerField()


class ViewEventSerializer(ViewSerializer):
    """A view, as a trusted client reports it for somebody else."""

    video = WholeField(help_text="Its id; one that does not exist is ignored as absent.")
    at = serializers.DateTimeField(
        required=False,
        allow_null=True,
        default_timezone=UTC,
        help_text="When it was; now where it is left out. Refused: the future, and what is older than a week "
        "(VIDEOS_VIEW_MAX_AGE_SECONDS).",
    )

    def get_fields(self) -> dict[str, Any]:
        """The viewer is required: it cannot be told from the request."""
        fields = super().get_fields()
        fields["viewer"].required, fields["viewer"].allow_null = True, False
        return fields

    def validate_at(self, at: datetime | None) -> datetime | None:
        """Refuses views of the future, and views older than VIDEOS_VIEW_MAX_AGE_SECONDS."""
        if at is not None:
            age = datetime.now(UTC) - at
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


class GainsSerializer(serializers.Serializer[Any]):
    """How much each count gained; less than zero where more was taken back."""

    def get_fields(self) -> dict[str, Any]:
        """A field for each of COUNTS."""
        counts = {
            count.name: serializers.IntegerField(help_text=f"{count.name.capitalize()} gained.") for count in COUNTS
        }
        return super().get_fields() | without_dislikes(counts)


class StepSerializer(GainsSerializer):
    """How much each count gained in a step."""

    start = serializers.DateTimeField(help_text="The step lasts until the next one starts, or until `end`.")


class SiteStatsSerializer(serializers.Serializer[Any]):
    """What was gained in a span of time, and in as many hours before it."""

    step = serializers.ChoiceField(choices=["hour", "day", "month"])
    tz = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    hours_since = serializers.DateTimeField(help_text="Before this time a day (UTC) may count in its first hour.")
    sums = GainsSerializer()
    before = GainsSerializer()
    steps = StepSerializer(many=True)


class StatsSerializer(SiteStatsSerializer):
    """What was gained in a span of time."""

    before = None  # type: ignore[assignment]  # Django REST framework's way to leave out an inherited field


class TopVideoSerializer(GainsSerializer):
    """A video, and what it gained."""

    id = serializers.IntegerField()
    title = serializers.CharField()


class OwnStatsSerializer(SiteStatsSerializer):
    """The same of one's own videos, and those that gained most."""

    top = TopVideoSerializer(many=True)


class ErrorSerializer(serializers.Serializer[Any]):
    """Why not."""

    detail = serializers.CharField(help_text="For people; the words may change.")
    code = serializers.CharField(help_text=f"For programs; it never changes. One of {', '.join(sorted(CODES))}.")


class InvalidSerializer(ErrorSerializer):
    """Why not, field by field where the code is `invalid`."""

    def get_fields(self) -> dict[str, Any]:
        """`errors`, which is the name of a property of serializers."""
        errors = serializers.DictField(required=False, help_text="Messages for each field or parameter.")
        return {**super().get_fields(), "errors": errors}


def responses(good: Mapping[int, Any], *bad: int) -> dict[int, Any]:
    """The answers of a call for the OpenAPI schema: the good ones, these errors, and the errors of every call."""
    errors = {
        code: OpenApiResponse(InvalidSerializer if code == 400 else ErrorSerializer, description=ERRORS[code])
        for code in sorted({406, 503, *bad})
    }
    return {**good, **errors}
