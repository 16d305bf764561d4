"""Requests through the WSGI callable, as a web server makes them, and which way each took."""

import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import User
from django.core.signals import request_started

from streaming.wsgi import application
from videos.api.tokens import AccessToken
from videos.counters.connection import Lease

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
COUNTS, VIDEOS = "/api/videos/counts/", "/api/videos/"
VIEWED = b'{"viewer":"someone","watched":40}'
Call = Callable[..., Any]  # the fixture `call`


class Got(NamedTuple):
    """An answer, and whether the express lane gave it."""

    status: int
    headers: Mapping[str, str]
    body: Any
    express: bool
    content: bytes


@contextmanager
def django_requests() -> Iterator[list[int]]:
    """One element for each request that Django's handler was given."""
    seen: list[int] = []

    def note(**_: Any) -> None:
        seen.append(1)

    request_started.connect(note)
    try:
        yield seen
    finally:
        request_started.disconnect(note)


def ask(method: str, path: str, body: bytes = b"", /, handler: Any = application, **headers: Any) -> Got:
    """Call the handler as a web server does. `headers`: keys of the WSGI environ; None takes one away."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", "REMOTE_ADDR": "192.0.2.7",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": BROWSER, "wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr,
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.multithread": True, "wsgi.multiprocess": True,
        "wsgi.run_once": False, "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json", **headers,
    }  # fmt: skip
    environ = {name: value for name, value in environ.items() if value is not None}
    started: list[Any] = []
    with django_requests() as by_django:
        response: Any = handler(environ, lambda status, names, *_: started.extend((status, names)))
        content = b"".join(response)
        getattr(response, "close", int)()
    named = dict(started[1])
    if named.get("Content-Length"):
        assert int(named["Content-Length"]) == len(content)
    parsed = json.loads(content) if content and named.get("Content-Type") == "application/json" else content
    return Got(int(started[0].split()[0]), named, parsed, not by_django, content)


def token_of(user: User) -> str:
    """The value of the header that carries a user's token."""
    return f"Bearer {AccessToken.of(user)}"


def bearer(user: User, **changes: Any) -> dict[str, Any]:
    """The header of a user's token, with some of its claims changed."""
    token = AccessToken.of(user)
    token.claims.update(changes)
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


def nobody(user: User) -> dict[str, Any]:
    """No header."""
    return {}


def headers(**values: Any) -> Callable[[User], dict[str, Any]]:
    """These headers, for every user."""
    return lambda user: values


def signed_in(**values: Any) -> Callable[[User], dict[str, Any]]:
    """The user's token and these headers."""
    return lambda user: bearer(user) | values


def like_path(video_id: int) -> str:
    """Where a video is liked."""
    return f"/api/videos/{video_id}/like/"


def view_path(video_id: int) -> str:
    """Where its views are counted."""
    return f"/api/videos/{video_id}/view/"


def video_path(video_id: int) -> str:
    """Where it is read."""
    return f"/api/videos/{video_id}/"


def pages(call: Callable[..., Any], path: str, **who: Any) -> tuple[list[list[Any]], list[str | None]]:
    """All pages of a list from the first on, and the URL before each."""
    found, before = [], []
    url: str | None = path
    while url:
        answer = call("GET", url.removeprefix("http://testserver"), **who).json()
        found.append(answer["results"])
        before.append(answer["previous"])
        url = answer["next"]
    return found, before


@contextmanager
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of commands in each round trip to Redis."""
    seen: list[int] = []
    send = Lease.ask

    def spy(self: Any, commands: Any, timeout: Any) -> Any:
        seen.append(len(commands))
        return send(self, commands, timeout)

    with monkeypatch.context() as patch:
        patch.setattr(Lease, "ask", spy)
        yield seen
