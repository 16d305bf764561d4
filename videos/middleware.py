"""What every answer of Django's carries, and the pages for probes, which answer to any Host."""

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve

from videos import health

# Nothing from elsewhere, no inline script, in no frame. Videos may lie anywhere.
_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; media-src 'self' https: http:; style-src {style}; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PAGE_POLICY: Final = _POLICY.format(style="'self'")
DOCS_POLICY: Final = _POLICY.format(style="'self' 'unsafe-inline'")  # Swagger UI writes style elements
# django-unfold runs Alpine.js, which evaluates attributes of its templates, and writes colours into a style element.
ADMIN_POLICY: Final = f"{DOCS_POLICY}; script-src 'self' 'unsafe-eval'"
HEADERS: Final = {
    "Content-Security-Policy": PAGE_POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
}


class GuardMiddleware:
    """Sets HEADERS where a view has not, and answers probes before any other middleware.

    A probe sends an address as Host, which ALLOWED_HOSTS does not have, and comes without TLS. The pages for probes
    make no link and no redirect, so the Host does not matter there.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a request."""
        probe = _probe(request.path_info)
        response = self.get_response(request) if probe is None else probe(request)
        match = request.resolver_match
        if match is not None and match.url_name == "docs":
            response.headers["Content-Security-Policy"] = DOCS_POLICY
        elif match is not None and match.app_name == "admin":
            response.headers["Content-Security-Policy"] = ADMIN_POLICY
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


def _probe(path: str) -> Callable[[HttpRequest], HttpResponseBase] | None:
    if not path.endswith(health.PATHS):
        return None
    try:
        view = resolve(path).func
    except Resolver404:
        return None
    return view if view in health.VIEWS else None
