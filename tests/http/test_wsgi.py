"""What the handler leaves to Django, and how it prepares a request for it."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from servers import WebServer
from tests.support.doors import ask, bearer, like_path, view_path
from tests.support.factories import allow
from videos.models import Video

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

VIEWED = b'{"viewer":"someone","watched":1}'


def session_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"


def test_session_takes_djangos_way_with_its_csrf_check(video_id: int, user: User) -> None:
    cookie = session_of(user)
    assert ask("PUT", like_path(video_id), HTTP_COOKIE=cookie).status == 403
    token = "a" * 32
    got = ask("PUT", like_path(video_id), HTTP_COOKIE=f"{cookie}; csrftoken={token}", HTTP_X_CSRFTOKEN=token)
    assert (got.status, got.body["liked"], got.express) == (200, True, False)


@pytest.mark.parametrize("kind", ["application/json", "text/plain;charset=UTF-8"])
def test_view_beside_a_session_without_its_csrf_token_counts_as_an_anonymous_one(
    video_id: int, user: User, kind: str
) -> None:
    Video.objects.update(owner=user)
    cookie = session_of(user)
    views = [ask("POST", view_path(video_id), b'{"viewer":"me"}', CONTENT_TYPE=kind, HTTP_COOKIE=cookie) for _ in "12"]
    assert [(got.status, got.body["reason"]) for got in views] == [(200, "new"), (200, "seen")]
    assert ask("GET", view_path(video_id).replace("view/", ""), HTTP_COOKIE=cookie).status == 200
    csrf = {"HTTP_COOKIE": f"{cookie}; csrftoken={'a' * 32}", "HTTP_X_CSRFTOKEN": "a" * 32}
    assert ask("POST", view_path(video_id), b"{}", **csrf).body["reason"] == "owner"
    assert ask("PUT", like_path(video_id), HTTP_COOKIE=cookie).status == 403


def test_only_views_are_read_as_plain_text(user: User) -> None:
    allow(user, "send_views")
    got = ask("POST", "/api/views/", b'{"events":[]}', CONTENT_TYPE="text/plain", **bearer(user))
    assert got.status == 415


@pytest.mark.parametrize("charset", ["zlib", "idna", "undefined", "rot13", "utf-16", "x'y"])
@pytest.mark.parametrize("parameter", ["charset={}", "a*={}''b", " CharSet={}"])
def test_charset_that_is_no_text_encoding_is_overlooked(video_id: int, charset: str, parameter: str) -> None:
    content_type = f"application/json;{parameter.format(charset)}"
    got = ask("POST", view_path(video_id), VIEWED, CONTENT_TYPE=content_type, HTTP_ACCEPT="application/json;q=0.9")
    assert (got.status, got.body["reason"]) == (200, "short")


@pytest.mark.parametrize("content_type", ["a; b*=nope''%41", "a; charset=idna"])
def test_refusal_does_not_mind_what_the_content_type_names(video_id: int, content_type: str) -> None:
    got = ask("PUT", like_path(video_id), CONTENT_TYPE=content_type)
    assert (got.status, got.express) == (401, True)


def test_form_keeps_its_boundary(user: User) -> None:
    body = b'--xyz\r\nContent-Disposition: form-data; name="username"\r\n\r\nsomebody\r\n--xyz--\r\n'
    cookie = f"csrftoken={'a' * 32}"
    got = ask(
        "POST", "/admin/login/", body, HTTP_COOKIE=cookie, HTTP_X_CSRFTOKEN="a" * 32,
        CONTENT_TYPE="multipart/form-data; charset=zlib; Boundary=xyz",
    )  # fmt: skip
    assert got.status == 200
    assert b'value="somebody"' in got.content


CHUNKED: dict[str, Any] = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked"}


def test_body_without_its_length_is_read(video_id: int, user: User) -> None:
    got = ask("POST", view_path(video_id), VIEWED, **CHUNKED, **{"wsgi.input_terminated": True})
    assert (got.status, got.body["reason"]) == (200, "short")
    sent = b'{"title":"t","url":"https://example.com/1"}'
    got = ask("POST", "/api/videos/", sent, **CHUNKED, **bearer(user), **{"wsgi.input_terminated": True})
    assert (got.status, got.body["title"]) == (201, "t")


def test_body_without_its_length_is_refused_where_its_end_is_not_told(video_id: int, user: User) -> None:
    allow(user, "send_views")
    for path in (view_path(video_id), "/api/videos/", "/api/views/", "/api/token/"):
        got = ask("POST", path, VIEWED, **CHUNKED, **bearer(user))
        assert (got.status, got.body) == (
            411,
            {"detail": "Send the body with a Content-Length.", "code": "length_required"},
        )
    assert ask("POST", "/admin/login/", VIEWED, **CHUNKED).status in {400, 403}
    assert ask("PUT", like_path(video_id), VIEWED, **CHUNKED, **bearer(user)).status == 200  # it has no use for one


@pytest.mark.parametrize("megabytes", [0, 2])
def test_granian_hands_on_a_chunked_body(video_id: int, web_server: Callable[..., WebServer], megabytes: int) -> None:
    server = web_server()
    sent = VIEWED + b" " * (megabytes * 1_000_000)
    chunks = [sent[i : i + 100_000] for i in range(0, len(sent), 100_000)]
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as peer:
        peer.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" % view_path(video_id).encode()
        )
        answer = b""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may refuse a body before it has all of it
            for chunk in [*chunks, b""]:
                peer.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        with contextlib.suppress(ConnectionResetError):
            while part := peer.recv(65536):
                answer += part
    expected = b"413" if megabytes else b"200"
    assert answer.split()[1] == expected
    assert (b'"short"' in answer) is (not megabytes)


@pytest.mark.parametrize(
    ("body", "changes", "status"),
    [(b"", CHUNKED | {"wsgi.input_terminated": True}, 411), (b"{}", {"CONTENT_LENGTH": "40"}, 400)],
)
def test_view_whose_body_broke_off_is_not_counted(
    video_id: int, body: bytes, changes: dict[str, Any], status: int
) -> None:
    got = ask("POST", view_path(video_id), body, CONTENT_TYPE="application/json", **changes)
    assert got.status == status
    assert ask("GET", f"/api/videos/{video_id}/").body["view_count"] == 0
