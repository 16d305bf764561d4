"""The express lane: a like and a view without the framework around them.

Django's handler and Django REST framework's dispatch take three times as long as all that a warm like does. So the
door asks here first. What is usual (a signed-in like or unlike, a view as JSON) is answered with the same functions
that the views call: the same check of the token, the same throttle, the same reading of the body, the same service,
the same body of the answer. Whatever is unusual in any way, a session among it, and each refusal and fault, takes the
whole way, and is worded there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from rest_framework.exceptions import APIException

from videos import serializers, services, throttling, viewers
from videos.authentication import TokenUser, user_of
from videos.conf import conf
from videos.negotiation import read_json, takes_json

ERROR: Final = "videos.error"  # the key in the WSGI environ of what a service raised; the view raises it again
COUNTS_HEADER: Final = "X-Counts"  # says "stored" where the numbers came from the rows, Redis being away
BODY_BYTES = 4096  # of a view; a larger body is none of the usual ones
_PATH = re.compile(r"/api/videos/([1-9][0-9]{0,17})/(like|view)/")
_WISHES = {"PUT": True, "POST": True, "DELETE": False}


class Usual(NamedTuple):
    """A request that looks like a usual one."""

    what: str  # "like" or "view"
    video: int


class Answer(NamedTuple):
    """The body of a 200. `stored`: its numbers are from the rows, Redis being away."""

    body: bytes
    stored: bool


def usual(environ: Mapping[str, Any], session_cookie: str) -> Usual | None:
    """Tell by its address and headers whether a request may take the express lane."""
    match = _PATH.fullmatch(environ.get("PATH_INFO", ""))
    if (
        match is None
        or environ.get("QUERY_STRING")
        or session_cookie in environ.get("HTTP_COOKIE", "")
        or not takes_json(environ.get("HTTP_ACCEPT", ""))
        or not conf.EXPRESS
    ):
        return None
    return Usual(match[2], int(match[1]))


def answer(environ: dict[str, Any], request: Usual) -> Answer | None:
    """Do what is asked; None: the whole way must answer, with what stands under ERROR where a service refused."""
    act = _like if request.what == "like" else _view
    try:
        return act(environ, request.video)
    except APIException:
        return None  # a token or a body that is refused: nothing has happened yet
    except Exception as error:  # noqa: BLE001  it is raised again, where errors are answered
        environ[ERROR] = error  # something may have happened: it must not happen again
        return None


def _like(environ: dict[str, Any], video: int) -> Answer | None:
    liked = _WISHES.get(environ["REQUEST_METHOD"])
    user = _user(environ)
    if liked is None or user is None or throttling.wait_seconds("like", user.id, environ):
        return None
    like = services.set_like(video=video, user=user.id, liked=liked)
    return Answer(serializers.like_body(like), like.stored)


def _view(environ: dict[str, Any], video: int) -> Answer | None:
    length = environ.get("CONTENT_LENGTH") or ""
    if (
        environ["REQUEST_METHOD"] != "POST"
        or environ.get("CONTENT_TYPE") != "application/json"
        or not (length.isascii() and length.isdecimal() and len(length) < 6 and 0 < int(length) <= BODY_BYTES)
    ):
        return None
    user = _user(environ)
    if user is None and environ.get("HTTP_AUTHORIZATION"):
        return None
    sent = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = io.BytesIO(sent)  # the whole way reads it again
    viewer_id, watched = serializers.read_view(read_json(sent))
    user_id = None if user is None else user.id
    if throttling.wait_seconds("view", user_id, environ):
        return None
    viewer = viewers.viewer_of(environ, user=user_id, sent=viewer_id)
    view = services.record_view(
        event=services.ViewEvent(video, viewer.name, user_id, watched, None, viewer.address, viewer.bot)
    )
    return Answer(serializers.view_body(view), view.stored)


def _user(environ: dict[str, Any]) -> TokenUser | None:
    header = environ.get("HTTP_AUTHORIZATION")
    return user_of(header) if header else None
