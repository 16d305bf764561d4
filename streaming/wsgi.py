"""The WSGI callable that a web server runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import django
from django.conf import settings
from django.core.cache import close_caches
from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_finished, request_started
from django.db import reset_queries
from django.http import HttpRequest
from django.middleware.security import SecurityMiddleware
from django.urls import ResolverMatch, get_resolver
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")


class Request(WSGIRequest):
    """Django's, but in UTF-8 whatever charset a client names.

    Django decodes with any codec that Python has (zlib, idna) while it makes the request: outside of all that catches
    errors, so that the client gets an empty 500.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            self.content_type, self.content_params = "", {}


@lru_cache(maxsize=16_384)
def _match(path: str) -> ResolverMatch:
    return get_resolver().resolve(path)  # a Resolver404 is not remembered


class Door(WSGIHandler):
    """Django's handler, with a short way to the API for clients that send no session cookie.

    Sessions, messages, CSRF and static files are what a browser's pages need: for a token's like or an anonymous view
    they were half of Django's own time. A request with a session cookie takes the whole way, so SessionAuthentication
    and its CSRF check are as everywhere. TLS redirects, security headers and the check of the host hold on both.
    """

    request_class = Request

    def load_middleware(self, is_async: bool = False) -> None:
        """Build both ways once."""
        super().load_middleware(is_async)
        site: Callable[[HttpRequest], Any] = self._middleware_chain  # type: ignore[has-type]

        def view(request: HttpRequest) -> Any:
            request.get_host()  # raises DisallowedHost
            return self._get_response(request)  # type: ignore[attr-defined]

        secure = convert_exception_to_response(SecurityMiddleware(convert_exception_to_response(view)))
        cookie = settings.SESSION_COOKIE_NAME

        def choose(request: HttpRequest) -> Any:
            path = request.path_info
            if not (path.startswith("/api/") and path.endswith("/")) or cookie in request.META.get("HTTP_COOKIE", ""):
                return site(request)
            response: Any = secure(request)
            if not response.streaming and "Content-Length" not in response.headers:
                response.headers["Content-Length"] = str(len(response.content))
            return response

        self._middleware_chain = choose

    def resolve_request(self, request: HttpRequest) -> Any:
        """Find the view; the same address again costs a look into memory."""
        if hasattr(request, "urlconf"):
            return super().resolve_request(request)
        request.resolver_match = match = _match(request.path_info)
        return match


django.setup(set_prefix=False)
# Two things that Django does around each request have no use here: its log of queries is kept in DEBUG only, and no
# cache does anything in close() (locmem; django-redis unless DJANGO_REDIS_CLOSE_CONNECTION).
if not settings.DEBUG:
    request_started.disconnect(reset_queries)
    request_finished.disconnect(close_caches)
application = Door()
