"""The WSGI callable that a web server runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import django
from django.conf import settings
from django.core.cache import close_caches
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.signals import request_finished, request_started, setting_changed
from django.db import reset_queries
from django.http import HttpRequest, HttpResponse
from django.middleware.security import SecurityMiddleware
from django.urls import Resolver404, ResolverMatch, get_resolver
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")
django.setup(set_prefix=False)

from videos import express  # noqa: E402  needs the settings

HOSTS_REMEMBERED = 1000
LENGTH_DIGITS = 18


class Request(WSGIRequest):
    """Django's, but in UTF-8 whatever charset a client names.

    Django decodes with any codec that Python has (zlib, idna) while it makes the request: outside of all that catches
    errors, so that the client gets an empty 500. And a length that is no number, which it reads without care, is none.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        length = environ.get("CONTENT_LENGTH") or ""
        if not (length.isascii() and length.isdecimal() and len(length) <= LENGTH_DIGITS):
            environ["CONTENT_LENGTH"] = ""
        super().__init__(environ)

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            self.content_type, self.content_params = "", {}


class Frame(NamedTuple):
    """What is around the body of a usual answer: its headers, and what stands before the path in links."""

    headers: list[tuple[str, str]]
    site: str


@lru_cache(maxsize=16_384)
def _match(path: str) -> ResolverMatch:
    return get_resolver().resolve(path)  # a Resolver404 is not remembered


class Door(WSGIHandler):
    """Django's handler, with two short ways for clients that send no session cookie.

    Usual requests take the express lane (`videos.express`), with none of the handler around them. All others to the
    API are spared middleware: sessions, messages, CSRF and static files are what a browser's pages need, and were half
    of Django's own time. A request with a session cookie takes the whole way, so SessionAuthentication and its CSRF
    check are as everywhere. TLS redirects, security headers and the check of the host hold on all three.
    """

    request_class = Request

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the ways once."""
        super().load_middleware(is_async)
        site: Callable[[HttpRequest], Any] = self._middleware_chain  # type: ignore[has-type]

        def view(request: HttpRequest) -> Any:
            request.get_host()  # raises DisallowedHost
            return self._get_response(request)  # type: ignore[attr-defined]

        def usual(request: HttpRequest) -> HttpResponse:
            request.get_host()
            allow = get_resolver().resolve(request.path_info).func.view_class.allow  # type: ignore[attr-defined]
            response = HttpResponse(content_type="application/json", headers={"Allow": allow})
            uri = request.build_absolute_uri(request.path)
            response.site = uri.removesuffix(request.path_info)  # type: ignore[attr-defined]
            return response

        secure = convert_exception_to_response(SecurityMiddleware(convert_exception_to_response(view)))
        self._secure_usual = SecurityMiddleware(usual)
        self._frames: dict[tuple[str | None, ...], Frame | None] = {}
        self._forget_frames()
        setting_changed.connect(self._forget_frames)
        self._session_cookie = cookie = settings.SESSION_COOKIE_NAME

        def choose(request: HttpRequest) -> Any:
            path = request.path_info
            if not (path.startswith("/api/") and path.endswith("/")) or cookie in request.META.get("HTTP_COOKIE", ""):
                return site(request)
            response: Any = secure(request)
            if not response.streaming and "Content-Length" not in response.headers:
                response.headers["Content-Length"] = str(len(response.content))
            return response

        self._middleware_chain = choose

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer a request: on the express lane where it is a usual one."""
        request = express.usual(environ, self._session_cookie)
        if request is None or (frame := self._frame_of(environ, request.what)) is None:
            return super().__call__(environ, start_response)
        answer = express.answer(environ, request, frame.site)
        if answer is None:
            return super().__call__(environ, start_response)
        stored = ((express.COUNTS_HEADER, "stored"),) if answer.stored else ()
        start_response("200 OK", [*frame.headers, ("Content-Length", str(len(answer.body))), *stored])
        return [answer.body]

    def _frame_of(self, environ: dict[str, Any], what: str) -> Frame | None:
        """The frame of a usual answer; None where the host is not ours, or TLS is asked for.

        Worked out by Django itself, once for each host and scheme.
        """
        key = (what, *[environ.get(name) for name in self._names])
        try:
            return self._frames[key]
        except KeyError:
            pass
        try:
            response: Any = self._secure_usual(self.request_class(environ))
            frame = Frame(list(response.items()), response.site) if response.status_code == 200 else None
        except (SuspiciousOperation, Resolver404):
            frame = None
        if len(self._frames) >= HOSTS_REMEMBERED:
            self._frames.clear()  # somebody plays with the Host header
        self._frames[key] = frame
        return frame

    def _forget_frames(self, **_: Any) -> None:
        self._frames.clear()
        secure: Any = settings.SECURE_PROXY_SSL_HEADER
        self._names = (
            *("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme"),
            *(secure[:1] if secure else ()),
            *(("HTTP_X_FORWARDED_HOST",) if settings.USE_X_FORWARDED_HOST else ()),
            *(("HTTP_X_FORWARDED_PORT",) if settings.USE_X_FORWARDED_PORT else ()),
        )

    def resolve_request(self, request: HttpRequest) -> Any:
        """Find the view; the same address again costs a look into memory."""
        if hasattr(request, "urlconf"):
            return super().resolve_request(request)
        request.resolver_match = match = _match(request.path_info)
        return match


# Two things that Django does around each request have no use here: its log of queries is kept in DEBUG only, and no
# cache does anything in close() (locmem; django-redis unless DJANGO_REDIS_CLOSE_CONNECTION).
if not settings.DEBUG:
    request_started.disconnect(reset_queries)
    request_finished.disconnect(close_caches)
application = Door()
