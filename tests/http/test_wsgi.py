"""The door that web servers call: the short way to the API differs from the whole way in nothing that a client sees."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from streaming.wsgi import application
from tests.support.load import make_videos
from videos.api.tokens import RefreshToken

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


def start_into(started: list[Any]) -> Any:
    """A `start_response` that keeps what it is told."""
    return lambda status, names, *_: started.extend((status, names))


def call(method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Call the door as a web server does; return status, headers and body."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http", "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
        "CONTENT_LENGTH": "0", "CONTENT_TYPE": "",
    }  # fmt: skip
    started: list[Any] = []
    response: Any = application(environ | headers, start_into(started))
    content = b"".join(response)
    getattr(response, "close", int)()
    return int(started[0].split()[0]), dict(started[1]), content


def bearer(user: User) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {RefreshToken.of(user).access_token}"}


def test_token_likes_by_the_short_way() -> None:
    (video,) = make_videos(1)
    user = User.objects.create(username="u")
    status, headers, body = call("PUT", f"/api/videos/{video}/like/", **bearer(user))
    assert (status, json.loads(body)) == (200, {"id": video, "liked": True, "like_count": 1})
    assert headers["Content-Length"] == str(len(body))
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_session_takes_the_whole_way_with_its_csrf_check() -> None:
    (video,) = make_videos(1)
    client = Client()
    client.force_login(User.objects.create(username="u"))
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    path = f"/api/videos/{video}/like/"
    assert call("PUT", path, HTTP_COOKIE=cookie)[0] == 403
    token = "a" * 32
    status, _, body = call("PUT", path, HTTP_COOKIE=f"{cookie}; csrftoken={token}", HTTP_X_CSRFTOKEN=token)
    assert (status, json.loads(body)["liked"]) == (200, True)


@pytest.mark.parametrize("path", ["/api/videos/", "/admin/"])
def test_host_that_is_not_ours_is_refused(path: str) -> None:
    assert call("GET", path, HTTP_HOST="evil.example")[0] == 400


def test_plain_http_is_redirected_in_production(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    from streaming.wsgi import Door

    door = Door()
    started: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/api/videos/", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
        "wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http", "HTTP_HOST": "localhost",
    }  # fmt: skip
    response: Any = door(environ, start_into(started))
    response.close()
    assert started[0].startswith("301")
    assert dict(started[1])["Location"] == "https://localhost/api/videos/"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/nothing/", 404), ("/api/videos/0/like/", 404), ("/api/videos", 301), ("/admin/", 302), ("/", 200)],
)
def test_other_addresses_answer_as_they_do(path: str, status: int) -> None:
    got, headers, body = call("GET", path)
    assert got == status
    if path.startswith("/api/") and status == 404:
        assert headers["Content-Type"] == "application/json"
        assert "detail" in json.loads(body)


def test_same_address_is_resolved_anew_after_a_404() -> None:
    user = User.objects.create(username="u")
    assert call("GET", "/api/videos/1/")[0] == 404
    (video,) = make_videos(1)
    for _ in range(2):
        assert call("GET", f"/api/videos/{video}/", **bearer(user))[0] == 200
