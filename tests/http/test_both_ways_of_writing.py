"""Both ways answer a write the same: status, headers and body, from the express lane as from Django."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.doors import VIEWED, ask, bearer, headers, like_path, nobody, signed_in, view_path
from tests.support.factories import make_videos
from videos import services
from videos.api.frames import CORS
from videos.api.handler import Handler
from videos.api.tokens import RefreshToken

pytestmark = [pytest.mark.django_db(transaction=True)]

ORIGIN = "https://app.example"
BEACON = "text/plain;charset=UTF-8"  # what navigator.sendBeacon calls a string
CHUNKED: dict[str, Any] = {
    "CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True,
}  # fmt: skip


def dislike_path(video_id: int) -> str:
    """Where a video is disliked."""
    return f"/api/videos/{video_id}/dislike/"


Case = tuple[str, Callable[[int], str], bytes, Callable[[User], dict[str, Any]]]  # method, path, body, headers
CASES: dict[str, Case] = {
    "like": ("PUT", like_path, b"", bearer),
    "like in broken JSON": ("PUT", like_path, b"{broken", bearer),
    "like that says unlike": ("PUT", like_path, b'{"liked":false}', bearer),
    "unlike": ("DELETE", like_path, b"", bearer),
    "dislike": ("PUT", dislike_path, b"", bearer),
    "dislike by POST": ("POST", dislike_path, b"", bearer),
    "dislike taken back": ("DELETE", dislike_path, b"", bearer),
    "dislike by GET": ("GET", dislike_path, b"", bearer),
    "dislike by nobody": ("PUT", dislike_path, b"", nobody),
    "dislike of no video": ("PUT", lambda video: dislike_path(video + 1000), b"", bearer),
    "like by nobody": ("PUT", like_path, b"", nobody),
    "like by a method that is none": ("PATCH", like_path, b"", bearer),
    "options": ("OPTIONS", like_path, b"", bearer),
    "token that is none": ("PUT", like_path, b"", headers(HTTP_AUTHORIZATION="Bearer x.y.z")),
    "token of three words": ("PUT", like_path, b"", headers(HTTP_AUTHORIZATION="Bearer a b")),
    "token of another scheme": ("PUT", like_path, b"", headers(HTTP_AUTHORIZATION="Basic dTp1")),
    "view with another scheme": ("POST", view_path, VIEWED, headers(HTTP_AUTHORIZATION="Basic dTp1")),
    "token that has ended": ("PUT", like_path, b"", lambda user: bearer(user, exp=1_000_000_000)),
    "token that begins later": ("PUT", like_path, b"", lambda user: bearer(user, nbf=9_000_000_000)),
    "token of the future": ("PUT", like_path, b"", lambda user: bearer(user, iat=9_000_000_000)),
    "token of nobody": ("PUT", like_path, b"", lambda user: bearer(user, user_id="x")),
    "token without an id": ("PUT", like_path, b"", lambda user: bearer(user, jti=None)),
    "refresh token": (
        "PUT", like_path, b"", lambda user: {"HTTP_AUTHORIZATION": f"Bearer {RefreshToken.of(user)}"},
    ),
    "token with a claim of others": ("PUT", like_path, b"", lambda user: bearer(user, sub="someone")),
    "token with a claim that is wrong": ("PUT", like_path, b"", lambda user: bearer(user, sub=7)),
    "view": ("POST", view_path, VIEWED, nobody),
    "view of a user": ("POST", view_path, VIEWED, bearer),
    "view too short": ("POST", view_path, b'{"viewer":"a","watched":1}', nobody),
    "view of a bot": ("POST", view_path, VIEWED, headers(HTTP_USER_AGENT="Googlebot/2.1")),
    "view by address": ("POST", view_path, b"{}", nobody),
    "view without a body": ("POST", view_path, b"", nobody),
    "view in broken JSON": ("POST", view_path, b"{", nobody),
    "view that is a list": ("POST", view_path, b"[]", nobody),
    "view in another encoding": ("POST", view_path, b'{"viewer":"\xff"}', nobody),
    "view of a viewer who is none": ("POST", view_path, b'{"viewer":"@1"}', nobody),
    "view for no time at all": ("POST", view_path, b'{"watched":NaN}', nobody),
    "view of a large body": ("POST", view_path, b'{"viewer":"a"}' + b" " * 5000, nobody),
    "view of a body too large": ("POST", view_path, b" " * 1_100_000, nobody),
    "view of a body that ends early": ("POST", view_path, b'{"viewer":"a"', headers(CONTENT_LENGTH="14")),
    "view of nonsense in length": ("POST", view_path, VIEWED, headers(CONTENT_LENGTH="\u0663")),
    "view as a form": ("POST", view_path, b"viewer=a", headers(CONTENT_TYPE="application/x-www-form-urlencoded")),
    "view with a charset": ("POST", view_path, VIEWED, headers(CONTENT_TYPE="application/json; charset=utf-8")),
    "view by GET": ("GET", view_path, b"", nobody),
    "HTML wanted": ("PUT", like_path, b"", signed_in(HTTP_ACCEPT="text/html")),
    "JSON wanted": ("PUT", like_path, b"", signed_in(HTTP_ACCEPT="application/json")),
    "a query": ("PUT", like_path, b"", signed_in(QUERY_STRING="format=xml")),
    "a host that is not ours": ("PUT", like_path, b"", signed_in(HTTP_HOST="evil.example")),
    "no video": ("PUT", lambda video: like_path(video + 1000), b"", bearer),
    "view of no video": ("POST", lambda video: view_path(video + 1000), VIEWED, nobody),
    "id of no row": ("PUT", lambda video: like_path(2**63), b"", bearer),
    "id in other digits": ("PUT", lambda video: "/api/videos/\u0661/like/".encode().decode("latin-1"), b"", bearer),
    "view with a CSRF secret": ("POST", view_path, VIEWED, headers(HTTP_COOKIE=f"csrftoken={'a' * 32}")),
    "view with a CSRF secret that is none": ("POST", view_path, VIEWED, headers(HTTP_COOKIE="csrftoken=a")),
    "view with two CSRF secrets": (
        "POST", view_path, VIEWED, headers(HTTP_COOKIE=f"csrftoken={'a' * 32}; csrftoken=a"),
    ),
    "view from an app": ("POST", view_path, VIEWED, headers(HTTP_ORIGIN=ORIGIN)),
    "like from an app": ("PUT", like_path, b"", signed_in(HTTP_ORIGIN=ORIGIN)),
    "like by nobody from an app": ("PUT", like_path, b"", headers(HTTP_ORIGIN=ORIGIN)),
    "like from elsewhere": ("PUT", like_path, b"", signed_in(HTTP_ORIGIN="https://evil.example")),
    "like from nowhere": ("PUT", like_path, b"", signed_in(HTTP_ORIGIN="null")),
    "like from an origin that is none": ("PUT", like_path, b"", signed_in(HTTP_ORIGIN="https://[")),
    "like from an app in a private network": (
        "PUT", like_path, b"", signed_in(HTTP_ORIGIN=ORIGIN, HTTP_ACCESS_CONTROL_REQUEST_PRIVATE_NETWORK="true"),
    ),
    "preflight": ("OPTIONS", like_path, b"", headers(HTTP_ORIGIN=ORIGIN, HTTP_ACCESS_CONTROL_REQUEST_METHOD="PUT")),
    "beacon": ("POST", view_path, VIEWED, headers(CONTENT_TYPE=BEACON)),
    "beacon from an app": ("POST", view_path, VIEWED, headers(CONTENT_TYPE=BEACON, HTTP_ORIGIN=ORIGIN)),
    "beacon of a user": ("POST", view_path, VIEWED, signed_in(CONTENT_TYPE=BEACON)),
    "beacon as plain text": ("POST", view_path, VIEWED, headers(CONTENT_TYPE="text/plain")),
    "beacon in another charset": ("POST", view_path, VIEWED, headers(CONTENT_TYPE="text/plain; charset=latin-1")),
    "beacon in broken JSON": ("POST", view_path, b"viewer=a", headers(CONTENT_TYPE=BEACON)),
    "beacon without a body": ("POST", view_path, b"", headers(CONTENT_TYPE=BEACON)),
    "beacon with a session": ("POST", view_path, VIEWED, headers(CONTENT_TYPE=BEACON, HTTP_COOKIE="sessionid=a")),
    "like as plain text": ("PUT", like_path, b"{", signed_in(CONTENT_TYPE="text/plain")),
    "view that is cut short": ("POST", view_path, b"{}", headers(CONTENT_LENGTH="40")),
    "chunked view": ("POST", view_path, b'{"watched":1}', headers(**CHUNKED)),
    "chunked view in broken JSON": ("POST", view_path, b"{", headers(**CHUNKED)),
    "chunked view too large": ("POST", view_path, b" " * 1_100_000, headers(**CHUNKED)),
    "chunked view without a body": ("POST", view_path, b"", headers(**CHUNKED)),
    "chunked view of a server that does not tell its end": (
        "POST", view_path, VIEWED, headers(**(CHUNKED | {"wsgi.input_terminated": None})),
    ),
    "chunked beacon": ("POST", view_path, VIEWED, headers(**(CHUNKED | {"CONTENT_TYPE": BEACON}))),
    "chunked like": ("PUT", like_path, b"{broken", signed_in(**CHUNKED)),
    "view over HTTP/2": ("POST", view_path, VIEWED, headers(**(CHUNKED | {"HTTP_TRANSFER_ENCODING": None}))),
}  # fmt: skip
BY_DJANGO = {
    "dislike by GET",
    *("like by a method that is none", "options", "preflight", "view by GET", "HTML wanted", "a query"),
    *("view of a large body", "view of a body too large", "view of nonsense in length", "view as a form"),
    *("view with a charset", "beacon in another charset", "a host that is not ours", "id of no row"),
    *("id in other digits", "view with a CSRF secret that is none", "view with two CSRF secrets"),
    *("beacon with a session", "view over HTTP/2", "like as plain text"),
    *(name for name in CASES if name.startswith("chunked")),
}


Both = Callable[..., tuple[Any, Any]]


@pytest.fixture(params=["without CORS", "with CORS"])
def both(request: pytest.FixtureRequest, settings: Any) -> Both:
    """What the express lane and Django answer; the ids, and so the lengths, may differ."""
    if request.param == "with CORS":
        settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
        settings.MIDDLEWARE = [CORS, *settings.MIDDLEWARE]
    handler = Handler()

    def answers(method: str, path: Callable[[int], str], body: bytes, headers: dict[str, Any]) -> Any:
        return [
            answer_of(express, method, path(video_id), body, headers)
            for express, video_id in zip((True, False), make_videos(2), strict=True)
        ]

    def answer_of(express: bool, method: str, path: str, body: bytes, headers: dict[str, Any]) -> Any:
        settings.VIDEOS_EXPRESS = express
        got = ask(method, path, body, handler=handler, **headers)
        assert express or not got.express
        same = got.body | {"id": 0} if isinstance(got.body, dict) and "id" in got.body else got.content
        varying = {name: "" for name in ("Content-Length", "Set-Cookie") if name in got.headers}
        return (got.status, {**got.headers, **varying}, same), got.express

    return answers


@pytest.mark.parametrize("name", CASES)
def test_both_ways_answer_the_same(name: str, user: User, both: Both) -> None:
    method, path, body, of_user = CASES[name]
    (answer, express), (same, _) = both(method, path, body, of_user(user))
    assert answer == same
    assert answer[0] < 500
    assert express is (name not in BY_DJANGO)


@pytest.mark.parametrize(
    "error",
    [
        *(services.VideoNotFound(), services.UserNotFound(), services.Unavailable(), OperationalError("gone")),
        *(ZeroDivisionError("a fault of ours"), PermissionError("of the system")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["like", "dislike", "view", "like from an app"])
def test_both_ways_answer_an_error_the_same_and_meet_it_once(
    user: User, both: Both, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    asked = []

    def fail(**given: Any) -> Any:
        asked.append(given)
        raise error

    monkeypatch.setattr(services, "set_mark", fail)
    monkeypatch.setattr(services, "record_view", fail)
    method, path, body, of_user = CASES[name]
    (answer, express), (same, _) = both(method, path, body, of_user(user))
    assert answer == same
    assert answer[0] >= 400
    assert (express, len(asked)) == (True, 2)


def test_both_ways_are_throttled_the_same(user: User, settings: Any, both: Both) -> None:
    settings.VIDEOS_THROTTLE_RATES = {"like": "2/minute", "view": "2/minute"}
    for method, path, body in (("PUT", like_path, b""), ("POST", view_path, b"{")):
        both(method, path, body, bearer(user))
        (answer, express), (same, _) = both(method, path, body, bearer(user))
        assert answer == same
        assert (answer[0], express) == (429, True)
        assert int(answer[1]["Retry-After"]) > 0


@given(
    method=st.sampled_from(["PUT", "POST", "DELETE", "GET", "PATCH"]),
    path=st.sampled_from([like_path, view_path]),
    body=st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["viewer", "watched"]), inner, max_size=2)
            ),
            max_leaves=4,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    extra=st.dictionaries(
        st.sampled_from(
            [
                *("HTTP_AUTHORIZATION", "HTTP_ACCEPT", "CONTENT_TYPE", "CONTENT_LENGTH", "QUERY_STRING"),
                *("HTTP_ORIGIN", "HTTP_COOKIE", "HTTP_TRANSFER_ENCODING"),
            ]
        ),
        st.text(st.characters(max_codepoint=255), max_size=12),
        max_size=2,
    ),
    known=st.booleans(),
)
@hypothesis_settings(max_examples=150)
def test_both_ways_answer_anything_the_same(  # noqa: PLR0917
    user: User, both: Both, method: str, path: Any, body: bytes, extra: dict[str, str], known: bool
) -> None:
    sent = (bearer(user) if known else {}) | extra
    (answer, _), (same, _) = both(method, path, body, sent)
    assert answer == same
    assert answer[0] < 500
