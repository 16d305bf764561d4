"""What comes in and goes out: JSON. Read strictly, and agreed upon without work where the client takes what we have."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.utils import json as strict_json

_ANYTHING_OR_JSON = frozenset({"", "*/*", "application/json", "application/json, text/plain, */*"})

_decode = json.JSONDecoder(parse_constant=strict_json.strict_constant).decode


def takes_json(accept: str) -> bool:
    """Whether an Accept header is one of the usual ones that JSON answers to."""
    return accept in _ANYTHING_OR_JSON


def read_json(body: bytes) -> Any:
    """The value of a body. Raises ParseError."""
    try:
        return _decode(body.decode())
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ParseError(f"JSON parse error - {reason}") from error


class StrictJSONParser(JSONParser):
    """JSON as RFC 8259 has it: UTF-8 whatever the header's charset says, no NaN, no nesting that exhausts the stack."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The body's value. Raises ParseError."""
        return read_json(stream.read())


class PreparedNegotiation(DefaultContentNegotiation):
    """Agrees at once where the headers are the common ones; works them out as Django REST framework does where not."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> Any:
        """The parser for the body, None where there is none."""
        if request.content_type == "application/json":
            return next(iter(parsers))
        return super().select_parser(request, parsers)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> Any:
        """The renderer and its media type. Raises NotAcceptable."""
        meta = request.META
        if takes_json(meta.get("HTTP_ACCEPT", "")) and not format_suffix and not meta.get("QUERY_STRING"):
            renderer = next(iter(renderers))
            return renderer, renderer.media_type
        return super().select_renderer(request, renderers, format_suffix)
