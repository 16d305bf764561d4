"""Content negotiation. The API speaks JSON only, so the usual headers need no work."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

_ANYTHING_OR_JSON = frozenset({"", "*/*", "application/json", "application/json, text/plain, */*"})


def takes_json(accept: str) -> bool:
    """Whether an Accept header is one of the usual ones that allow JSON."""
    return accept in _ANYTHING_OR_JSON


class PreparedNegotiation(DefaultContentNegotiation):
    """Decides usual headers by a look-up; leaves the rest to Django REST framework."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> Any:
        """The renderer and its media type. Raises NotAcceptable."""
        meta = request.META
        if takes_json(meta.get("HTTP_ACCEPT", "")) and not format_suffix and not meta.get("QUERY_STRING"):
            renderer = next(iter(renderers))
            return renderer, renderer.media_type
        return super().select_renderer(request, renderers, format_suffix)
