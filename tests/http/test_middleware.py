"""The operator's MIDDLEWARE is honoured: remembered where that is safe, else every request takes Django's way."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from corsheaders.signals import check_request_enabled
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.test import Client

from tests.support.doors import VIDEOS, VIEWED, Got, ask, bearer, like_path, view_path
from videos.api import frames
from videos.api.frames import CORS, FRAMES_REMEMBERED
from videos.api.handler import Handler

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

ORIGIN = "https://app.example"


def stamp(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Middleware of an operator's own."""

    def run(request: Any) -> Any:
        response = get_response(request)
        response["X-Request-Id"] = request.headers.get("X-Request-Id", "none")
        return response

    return run


def welcome(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Middleware that sets a cookie."""

    def run(request: Any) -> Any:
        response = get_response(request)
        response.set_cookie("welcome", "yes")
        return response

    return run


STAMP, WELCOME = f"{__name__}.stamp", f"{__name__}.welcome"


@pytest.fixture
def with_cors(settings: Any) -> Handler:
    """A handler whose API may be called by pages of ORIGIN."""
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
    settings.MIDDLEWARE = [CORS, *settings.MIDDLEWARE]
    return Handler()


def warnings() -> list[str]:
    return [message.msg for message in run_checks(tags=["videos"]) if message.id == "videos.W003"]


def every_kind(handler: Handler, video_id: int, user: User, **headers: str) -> Iterator[Got]:
    """A like, a view, a read, and two requests that are never usual."""
    yield ask("PUT", like_path(video_id), handler=handler, **bearer(user), **headers)
    yield ask("POST", view_path(video_id), VIEWED, handler=handler, **headers)
    yield ask("GET", VIDEOS, handler=handler, **headers)
    yield ask("GET", f"/api/videos/{video_id}/likes/", handler=handler, **headers)
    yield ask("POST", "/api/token/", b"{}", handler=handler, **headers)


def test_own_middleware_sees_every_request_and_a_check_says_what_it_costs(
    video_id: int, user: User, settings: Any
) -> None:
    assert warnings() == []
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, STAMP]
    handler = Handler()
    for number, got in enumerate(every_kind(handler, video_id, user, HTTP_X_REQUEST_ID="abc")):
        assert (got.express, got.headers["X-Request-Id"]) == (False, "abc"), number
    (warning,) = warnings()
    assert STAMP in warning
    settings.VIDEOS_EXPRESS = False
    assert warnings() == []


def test_user_agents_that_are_disallowed_close_the_lane(video_id: int, settings: Any) -> None:
    settings.DISALLOWED_USER_AGENTS = [re.compile("Evil")]
    handler = Handler()
    statuses = [
        ask("POST", view_path(video_id), VIEWED, handler=handler, HTTP_USER_AGENT=agent).status
        for agent in ("Mozilla/5.0", "Evil/1.0")
    ]
    assert statuses == [200, 403]
    assert "DISALLOWED_USER_AGENTS" in warnings()[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": [r"^api/videos/1/"]},
        {"FORCE_SCRIPT_NAME": "/pre"},
        {"DATA_UPLOAD_MAX_MEMORY_SIZE": 10},
    ],
    ids=min,
)
def test_a_setting_that_the_lane_cannot_honour_closes_it(video_id: int, settings: Any, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert ask("GET", f"/api/videos/{video_id}/", handler=Handler()).express is False
    assert len(warnings()) == 1


def test_receiver_that_judges_origins_closes_the_lane(video_id: int, with_cors: Handler) -> None:
    def allow(request: Any, **_: Any) -> bool:
        return "HTTP_X_APP" in request.META

    check_request_enabled.connect(allow)
    try:
        handler = Handler()
        answers = [
            ask("POST", view_path(video_id), VIEWED, handler=handler, HTTP_ORIGIN="https://b.example", **headers)
            for headers in ({}, {"HTTP_X_APP": "1"})
        ]
        assert "check_request_enabled" in warnings()[0]
    finally:
        check_request_enabled.disconnect(allow)
    assert ["access-control-allow-origin" in got.headers for got in answers] == [False, True]
    assert warnings() == []


def test_debug_closes_the_lane_so_that_django_shows_its_pages(video_id: int, settings: Any) -> None:
    settings.DEBUG = True
    assert not ask("POST", view_path(video_id), VIEWED, handler=Handler()).express


def test_answer_with_a_cookie_is_not_remembered(video_id: int, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "KNOWN_MIDDLEWARE", {**frames.KNOWN_MIDDLEWARE, WELCOME: ()})
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, WELCOME]
    handler = Handler()
    got = [ask("POST", view_path(video_id), VIEWED, handler=handler) for _ in range(2)]
    assert [(one.express, "welcome" in one.headers["Set-Cookie"]) for one in got] == [(False, True)] * 2


def test_plain_http_is_redirected_and_headers_hold_behind_tls(video_id: int, user: User, settings: Any) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    handler = Handler()
    plain = ask("PUT", like_path(video_id), handler=handler, **bearer(user))
    got = ask("PUT", like_path(video_id), handler=handler, **bearer(user), HTTP_X_FORWARDED_PROTO="https")
    assert (plain.status, plain.express) == (301, False)
    assert plain.headers["Location"] == f"https://localhost{like_path(video_id)}"
    assert (got.status, got.express, got.body["like_count"]) == (200, True, 1)
    assert got.headers["Strict-Transport-Security"].startswith("max-age=60")
    assert got.headers["X-Content-Type-Options"] == "nosniff"


def test_hosts_and_origins_that_change_all_the_time_fill_no_memory(
    video_id: int, with_cors: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FRAMES_REMEMBERED <= 1000
    monkeypatch.setattr(frames, "FRAMES_REMEMBERED", 10)
    for number in range(20):
        assert ask("POST", view_path(video_id), VIEWED, handler=with_cors, HTTP_HOST=f"h{number}.a").status == 400
    assert len(with_cors.frames) == 0
    for number in range(25):
        got = ask("POST", view_path(video_id), VIEWED, handler=with_cors, HTTP_ORIGIN=f"https://h{number}.example")
        assert (got.status, got.express) == (200, True)
        assert len(with_cors.frames) <= 10
    before = len(with_cors.frames)
    got = ask("POST", view_path(video_id), VIEWED, handler=with_cors, HTTP_ORIGIN="https://a." * 200)
    assert (got.status, got.express, len(with_cors.frames)) == (200, False, before)


def test_pages_of_an_allowed_origin_may_call_the_api(video_id: int, user: User, with_cors: Handler) -> None:
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None), ("null", None)):
        answers = list(every_kind(with_cors, video_id, user, HTTP_ORIGIN=origin))
        assert [got.headers.get("access-control-allow-origin") for got in answers] == [allowed] * len(answers)
        assert all("origin" in got.headers["Vary"] for got in answers)
        assert [got.express for got in answers[:3]] == [True] * 3
    assert ask("GET", "/admin/login/", handler=with_cors, HTTP_ORIGIN=ORIGIN).headers["Vary"] == "Cookie"


def test_preflight_says_which_methods_and_headers_may_be_sent(video_id: int, with_cors: Handler) -> None:
    got = ask(
        "OPTIONS", like_path(video_id), handler=with_cors, HTTP_ORIGIN=ORIGIN, HTTP_ACCESS_CONTROL_REQUEST_METHOD="PUT"
    )
    assert (got.status, got.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "PUT" in got.headers["access-control-allow-methods"]
    assert "authorization" in got.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "path",
    ["/", "/admin/login/", "/api/docs/", "/api/docs/?script=", "/api/schema/", "/nothing", "/metrics", VIDEOS],
)
def test_every_answer_has_its_policies(path: str) -> None:
    headers = Client().get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    in_admin = path.startswith("/admin/")
    assert ("'unsafe-eval'" in policy) is in_admin
    assert [part for part in policy.split("; ") if part.startswith("script-src")] == (
        ["script-src 'self' 'unsafe-eval'"] if in_admin else []
    )
    assert ("style-src 'self' 'unsafe-inline'" in policy) is (in_admin or path.startswith("/api/docs/"))
    assert "camera=()" in headers["Permissions-Policy"]
    assert (headers["X-Frame-Options"], headers["X-Content-Type-Options"]) == ("DENY", "nosniff")
