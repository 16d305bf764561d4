"""Frames: the headers that the operator's MIDDLEWARE gives to express answers.

To spare running the middleware for each request, a frame is cached by the kind of address and by the values of the
headers that the middleware reads. This is correct only if every entry of MIDDLEWARE is known to read no other headers.
One unknown entry closes the express lane, and a system check reports it.
"""

import io
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from corsheaders.conf import conf as cors
from corsheaders.signals import check_request_enabled
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import NoReverseMatch, get_script_prefix, reverse

from videos.api.bodies import USUAL_BYTES

FRAMES_REMEMBERED: Final = 1000
KEY_CHARACTERS: Final = 1000  # in all of a key; longer ones are not remembered
PROBE: Final = "videos.probe"  # a key of the environ, which no header of a client can set; its value is PROBE too
CORS: Final = "corsheaders.middleware.CorsMiddleware"

# Middleware whose headers depend only on the address, on host, port and scheme, and on these keys of the environ.
KNOWN_MIDDLEWARE: Final[Mapping[str, tuple[str, ...]]] = {
    "django.middleware.security.SecurityMiddleware": (),
    "django.middleware.common.CommonMiddleware": (),  # DISALLOWED_USER_AGENTS closes the lane
    "django.middleware.csrf.CsrfViewMiddleware": (),  # its cookie: see `express`
    "django.middleware.clickjacking.XFrameOptionsMiddleware": (),
    "django.contrib.sessions.middleware.SessionMiddleware": (),  # its cookie: see `express`
    "django.contrib.auth.middleware.AuthenticationMiddleware": (),
    "django.contrib.messages.middleware.MessageMiddleware": (),
    "whitenoise.middleware.WhiteNoiseMiddleware": (),
    "videos.middleware.GuardMiddleware": (),
    CORS: ("HTTP_ORIGIN", "HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK"),
}
PATHS: Final[Mapping[str, str]] = {
    "like": "/api/videos/1/like/",
    "dislike": "/api/videos/1/dislike/",
    "view": "/api/videos/1/view/",
    "video": "/api/videos/1/",
    "counts": "/api/videos/counts/",
    "videos": "/api/videos/",
}


class ProbeResponse(HttpResponse):
    """The answer of this API's views to a probe. Any other response means that an address belongs to another view."""


class Frame(NamedTuple):
    """The headers of a usual answer without its Content-Length; scheme and host of its links."""

    headers: list[tuple[str, str]]
    site: str


def obstacles() -> Iterator[str]:
    """The reasons why these settings close the express lane; none if it is open."""
    for name in settings.MIDDLEWARE:
        if name not in KNOWN_MIDDLEWARE:
            yield f"{name!r} in MIDDLEWARE may give each request other headers"
    if settings.DISALLOWED_USER_AGENTS:
        yield "DISALLOWED_USER_AGENTS is set, so MIDDLEWARE checks the user agent of each request"
    if CORS in settings.MIDDLEWARE and check_request_enabled.has_listeners():
        yield "a receiver of corsheaders' signal check_request_enabled decides for each request"
    if CORS in settings.MIDDLEWARE and "video" in str(cors.CORS_URLS_REGEX):
        yield "CORS_URLS_REGEX may tell one video's address from another's"
    if settings.SECURE_SSL_REDIRECT and any("video" in pattern for pattern in settings.SECURE_REDIRECT_EXEMPT):
        yield "SECURE_REDIRECT_EXEMPT may tell one video's address from another's"
    if api_root() != "/api/":
        yield "ROOT_URLCONF serves the API under another path than /api/"
    if settings.FORCE_SCRIPT_NAME:
        yield "FORCE_SCRIPT_NAME changes the links of an answer"
    most: int | None = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if most is not None and most < USUAL_BYTES:
        yield f"DATA_UPLOAD_MAX_MEMORY_SIZE is below {USUAL_BYTES}, the size of a usual body"


def api_root() -> str:
    """The path of the API in ROOT_URLCONF, without SCRIPT_NAME; "" if the URLs of the app are not included."""
    try:
        return f"{reverse('page').removeprefix(get_script_prefix()[:-1])}api/"
    except NoReverseMatch:
        return ""


class Frames:
    """The cache of frames. `get_response` is Django's handler with all of the middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        self._closed = settings.DEBUG or any(obstacles())  # with DEBUG, Django answers a bug with its debug page
        self._middleware = list(settings.MIDDLEWARE)  # the middleware that `get_response` has loaded
        self._frames: dict[tuple[str | None, ...], Frame | None] = {}
        self._forget()
        setting_changed.connect(self._forget)

    def _forget(self, **_: Any) -> None:
        self._frames.clear()
        secure: Any = settings.SECURE_PROXY_SSL_HEADER
        self._names = (
            *("HTTP_HOST", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme"),
            *(secure[:1] if secure else ()),
            *(("HTTP_X_FORWARDED_HOST",) if settings.USE_X_FORWARDED_HOST else ()),
            *(("HTTP_X_FORWARDED_PORT",) if settings.USE_X_FORWARDED_PORT else ()),
            *(name for entry in self._middleware for name in KNOWN_MIDDLEWARE.get(entry, ())),
        )

    def __len__(self) -> int:
        return len(self._frames)

    def frame_of(self, address: str, environ: Mapping[str, Any]) -> Frame | None:
        """The frame of a usual answer.

        None if Django must answer: MIDDLEWARE has an unknown entry, forbids the host, redirects, or sets a cookie.
        """
        if self._closed:
            return None
        key = (address, *[environ.get(name) for name in self._names])
        try:
            return self._frames[key]
        except KeyError:
            return self._make(key)

    def _make(self, key: tuple[str | None, ...]) -> Frame | None:
        address, *values = key
        if sum(len(value or "") for value in values) > KEY_CHARACTERS:
            return None
        # The probe holds what the key holds and nothing else, so its headers fit every request with this key.
        request = WSGIRequest({
            "REQUEST_METHOD": "GET",
            "PATH_INFO": PATHS[str(address)],
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            PROBE: PROBE,
            **{name: value for name, value in zip(self._names, values, strict=True) if value is not None},
        })  # fmt: skip
        try:
            site = request.build_absolute_uri("/")[:-1]
        except SuspiciousOperation:
            return None  # a forbidden host; caching it would only push out allowed hosts
        response = self._get_response(request)
        headers = [header for header in response.items() if header[0] != "Content-Length"]
        good = isinstance(response, ProbeResponse) and response.status_code == 200 and not response.cookies
        if len(self._frames) >= FRAMES_REMEMBERED:
            self._frames.clear()  # a client sends many Host or Origin headers
        self._frames[key] = frame = Frame(headers, site) if good else None
        return frame
