"""Bodies and queries of requests: read, parsed and checked.

A serializer costs as much as counting the view. So code here checks usual bodies, and the serializer all others.
"""

import io
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Any, Final

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import UnreadablePostError
from rest_framework import serializers
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import JSONParser
from rest_framework.utils import json as strict_json

from videos.api import shapes
from videos.api.viewers import VIEWER_PATTERN
from videos.changes import LIKE, MAX_ID, VideosError
from videos.conf import conf
from videos.services import ViewEvent

LENGTH_DIGITS: Final = 18
USUAL_BYTES: Final = 4096  # of a view; a request with a larger body is unusual
MAX_IDS: Final = 100
SEARCH_CHARACTERS: Final = 200

_decode = json.JSONDecoder(parse_constant=strict_json.strict_constant).decode


class LengthRequired(VideosError, SuspiciousOperation):
    """Send the body with a Content-Length."""  # else the end of the body is unknown


class _Endless(io.RawIOBase):
    """A body whose end is unknown. Reading it raises LengthRequired, so that it is not taken for an empty one."""

    def read(self, size: int = -1) -> bytes:
        raise LengthRequired

    def readline(self, size: int | None = -1) -> bytes:
        raise LengthRequired


def length_of(environ: Mapping[str, Any]) -> int | None:
    """Content-Length; None if it is missing or no number."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isascii() and length.isdecimal() and len(length) <= LENGTH_DIGITS:
        return int(length)
    return None


def prepare(environ: dict[str, Any]) -> None:
    """Change headers of the body that Django would misread.

    - Django takes a body without Content-Length (chunked, or HTTP/2) for an empty one. If the server ends the input
      with the body (`wsgi.input_terminated`), the body is read here; otherwise reading it raises LengthRequired.
    - Django reads Content-Length with `int()`, which accepts signs and digits of other scripts.
    - Django decodes with any codec that a client names as charset (zlib, idna). That fails where no error is caught, so
      the client gets an empty 500. JSON is UTF-8, and a form needs only its boundary: other parameters are removed.
    """
    if length_of(environ) is None:
        environ["CONTENT_LENGTH"] = ""
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            _measure(environ)
    kind, semicolon, parameters = environ.get("CONTENT_TYPE", "").partition(";")
    if semicolon:
        named = (parameter.strip() for parameter in parameters.split(";"))
        environ["CONTENT_TYPE"] = "; ".join(
            [kind.strip(), *(one for one in named if one.lower().startswith("boundary="))]
        )


def _measure(environ: dict[str, Any]) -> None:
    if environ.get("wsgi.input_terminated"):
        most: int | None = settings.DATA_UPLOAD_MAX_MEMORY_SIZE  # None: no limit
        body = environ["wsgi.input"].read(-1 if most is None else most + 1)  # one byte too many is answered with 413
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        cut = not body  # a server may end its input without an error where a chunked body breaks off
    else:
        cut = True
    if cut and environ.get("HTTP_TRANSFER_ENCODING"):
        environ |= {"wsgi.input": _Endless(), "CONTENT_LENGTH": "1"}


def read_whole(stream: IO[bytes], length: int | None) -> bytes:
    """The body. Raises UnreadablePostError if it ends before its Content-Length."""
    try:
        body = stream.read() if length is None else stream.read(length)
    except OSError as error:
        raise UnreadablePostError(*error.args) from error
    if length is not None and len(body) < length:
        raise UnreadablePostError("The body is shorter than its Content-Length")
    return body


def parse_json(body: bytes) -> Any:
    """The value of a body. Raises ParseError."""
    try:
        return _decode(body.decode())
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ParseError(f"JSON parse error - {reason}") from error


class StrictJSONParser(JSONParser):
    """JSON by RFC 8259: always UTF-8, no NaN. Nesting that exhausts the stack is an error of the client."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The body's value. Raises ParseError, UnreadablePostError."""
        request = (parser_context or {}).get("request")
        return parse_json(read_whole(stream, None if request is None else length_of(request.META)))


class BeaconParser(StrictJSONParser):
    """JSON as text/plain: `navigator.sendBeacon` cannot send another type without a CORS preflight."""

    media_type = "text/plain"


def parse_view(data: Any) -> tuple[str | None, float | None]:
    """Viewer and seconds watched of a view. Raises ValidationError."""
    if type(data) is dict:
        viewer, watched = data.get("viewer"), data.get("watched")
        if _is_viewer(viewer) and _is_seconds(watched):
            return viewer, watched
    checked = _checked(shapes.ViewSerializer(data=data))
    return checked.get("viewer"), checked.get("watched")


def refuse_other_wish(data: Any, *, value: int) -> None:
    """Raise ValidationError if the body of a like, a dislike or its end says something else. It may say nothing."""
    for name, wish in (("liked", value == LIKE), ("rating", shapes.RATINGS[value])):
        told = data.get(name, wish) if isinstance(data, dict) else wish
        if type(told) is not type(wish) or told != wish:
            raise ValidationError({name: [f"This call sets it to {json.dumps(wish)}."]})


def parse_events(data: Any) -> list[ViewEvent]:
    """The events of a batch. Raises ValidationError, with the errors of each event by its place."""
    if type(data) is not dict or type(data.get("events")) is not list or len(data["events"]) > shapes.MAX_EVENTS:
        _checked(_EventsEnvelope(data=data))
        raise ValidationError({"events": ["Must be a list."]})
    now = time.time()
    span_ms = (now - conf.VIEW_MAX_AGE_SECONDS) * 1000, (now + shapes.CLOCK_SKEW_SECONDS) * 1000
    events: list[ViewEvent] = []
    faults: dict[str, Any] = {}
    for i, sent in enumerate(data["events"]):
        event = _usual_event(sent, span_ms)
        if event is None:
            serializer = shapes.ViewEventSerializer(data=sent)
            if not serializer.is_valid():
                faults[str(i)] = serializer.errors
                continue
            event = _event_of(serializer.validated_data)
        events.append(event)
    if faults:
        raise ValidationError({"events": faults})
    return events


class _EventsEnvelope(serializers.Serializer[Any]):
    events = serializers.ListField(max_length=shapes.MAX_EVENTS)  # parse_events checks each item


def _usual_event(sent: Any, span_ms: tuple[float, float]) -> ViewEvent | None:
    if type(sent) is not dict:
        return None
    video_id, viewer, watched, at = sent.get("video"), sent.get("viewer"), sent.get("watched"), sent.get("at")
    if type(video_id) is not int or viewer is None or not _is_viewer(viewer) or not _is_seconds(watched):
        return None
    at_ms = None
    if at is not None:
        at_ms = _unix_ms(at)
        if at_ms is None or not span_ms[0] <= at_ms <= span_ms[1]:
            return None
    return ViewEvent(video_id, viewer, None, watched, at_ms)


def _unix_ms(at: Any) -> int | None:
    """Unix milliseconds of a full date with its zone; None for any other value, which the serializer checks."""
    if type(at) is not str or len(at) < 20 or at[10] != "T":
        return None
    try:
        moment = datetime.fromisoformat(at)
        return None if moment.tzinfo is None else int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _event_of(checked: dict[str, Any]) -> ViewEvent:
    at = checked.get("at")
    at_ms = None if at is None else int(at.timestamp() * 1000)
    return ViewEvent(checked["video"], checked["viewer"], None, checked.get("watched"), at_ms)


def _is_viewer(viewer: Any) -> bool:
    return viewer is None or (type(viewer) is str and VIEWER_PATTERN.fullmatch(viewer) is not None)


def _is_seconds(watched: Any) -> bool:
    if watched is None:
        return not conf.VIEW_WATCHED_REQUIRED
    return type(watched) in {int, float} and 0 <= watched < 1e12


def _checked(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    checked: dict[str, Any] = serializer.validated_data
    return checked


def parse_ids(text: str | None) -> list[int]:
    """The video ids in `1,2,3`, in order, without duplicates and ids beyond BIGINT. Raises ValidationError."""
    words = [word.strip() for word in (text or "").split(",", MAX_IDS)]
    if len(words) > MAX_IDS:
        raise ValidationError({"ids": [f"At most {MAX_IDS} ids."]})
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise ValidationError({"ids": ["Must be numbers with commas between them, like 1,2,3."]})
    ids = (int(word) for word in words if len(word) <= 19)
    return list(dict.fromkeys(video_id for video_id in ids if video_id <= MAX_ID))


def parse_search(text: str) -> str:
    """The text of a search, without spaces around it. Raises ValidationError."""
    if len(text) > SEARCH_CHARACTERS or "\0" in text:
        raise ValidationError({"search": [f"At most {SEARCH_CHARACTERS} characters, no null characters."]})
    return text.strip()
