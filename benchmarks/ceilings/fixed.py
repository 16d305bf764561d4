"""A WSGI function that asks nobody: what is left of the web server and the load generator themselves."""

from collections.abc import Callable, Iterable
from typing import Any

BODY = b'[{"id":1,"like_count":500000,"view_count":0,"liked":false}]'
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer whatever is asked with the same bytes."""
    start_response("200 OK", HEADERS)
    return [BODY]
