"""WSGI functions, no framework: one Redis call (`application`), or none (`fixed`)."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import jwt

from benchmarks.wire import Scripts

SECRET_KEY = os.environ["SECRET_KEY"]
FIXED = b'[{"id":1,"like_count":500000,"view_count":0,"liked":false}]'
scripts = Scripts.of_environment()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer /api/videos/<id>/view/ and /api/videos/<id>/like/ (with its token checked)."""
    _, _, _, text, what, _ = environ["PATH_INFO"].split("/")
    video = int(text)
    answer: dict[str, Any]
    if what == "view":
        sent = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        counted, views = scripts.view(video, sent["viewer"])
        answer = {"id": video, "counted": counted, "view_count": views}
    else:
        token = environ["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
        user = int(jwt.decode(token, SECRET_KEY, algorithms=["HS256"])["user_id"])
        liked = environ["REQUEST_METHOD"] != "DELETE"
        answer = {"id": video, "liked": liked, "like_count": scripts.like(video, user, liked)}
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def fixed(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request with the same bytes: what is left is the web server and the load generator."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(FIXED)))])
    return [FIXED]
