"""The express lane: usual requests without the framework around them.

Django's handler and Django REST framework's dispatch take three times as long as all that a warm like does. So the
door asks here first. What is usual (a signed-in like or unlike, a view as JSON, numbers and videos being read) is
answered with the same functions that the views call: the same check of the token, the same throttle, the same reading
of what was sent, the same service, the same body of the answer. Whatever is unusual in any way, a session among it,
and each refusal and fault, takes the whole way, and is worded there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from rest_framework.exceptions import APIException, NotAuthenticated

from videos import serializers, services, throttling, viewers
from videos.api.authentication import user_of
from videos.conf import conf
from videos.negotiation import read_json, takes_json
from videos.pagination import VideoPagination

ERROR: Final = "videos.error"  # the key in the WSGI environ of what a service raised; the view raises it again
COUNTS_HEADER: Final = "X-Counts"  # says "stored" where the numbers came from the rows, Redis being away
BODY_BYTES = 4096  # of a view; a larger body is none of the usual ones
_PATH = re.compile(r"/api/videos/(?:([1-9][0-9]{0,17})/(?:(like|view)/)?|(counts)/)?")
_IDS = re.compile(r"ids=([0-9]+(?:(?:,|%2C)[0-9]+)*)")
_PAGE = re.compile(r"(?:(?:\A|(?<!\A)&)(?:page_size|ordering|cursor)=[A-Za-z0-9_-]+(?:=|%3D){0,2})*")
_PREFIXES = ("SCRIPT_NAME", "SCRIPT_URL", "REDIRECT_URL")  # from where Django takes a prefix of each path in a link


class Usual(NamedTuple):
    """A request that looks like a usual one."""

    what: str  # a word for its kind of address
    video: int  # 0 where the address names none
    query: str
    act: Callable[[dict[str, Any], Usual, str], Answer | None]


class Answer(NamedTuple):
    """The body of a 200. `stored`: its numbers are from the rows, Redis being away."""

    body: bytes
    stored: bool


class Page(NamedTuple):
    """What pagination needs of a request."""

    query_params: Mapping[str, str]
    uri: str

    def build_absolute_uri(self) -> str:
        """The whole address, from which those of the next and the previous page are made."""
        return self.uri


def usual(environ: Mapping[str, Any], session_cookie: str) -> Usual | None:
    """Tell by its address and headers whether a request may take the express lane."""
    match = _PATH.fullmatch(environ.get("PATH_INFO", ""))
    if match is None:
        return None
    video, of_video, counts = match.groups()
    what = (of_video or "video") if video else (counts or "videos")
    act = _ACTS.get((environ["REQUEST_METHOD"], what))
    query = environ.get("QUERY_STRING") or ""
    if (
        act is None
        or (query and what not in _QUERIED)
        or session_cookie in environ.get("HTTP_COOKIE", "")
        or not takes_json(environ.get("HTTP_ACCEPT", ""))
        or not conf.EXPRESS
    ):
        return None
    return Usual(what, int(video or 0), query, act)


def answer(environ: dict[str, Any], request: Usual, site: str) -> Answer | None:
    """Do what is asked; None: the whole way must answer, with what stands under ERROR where a service refused.

    `site` is what stands before the path in an absolute address.
    """
    try:
        return request.act(environ, request, site)
    except APIException:
        return None  # a token, a query or a body that is refused: nothing has happened yet
    except Exception as error:  # noqa: BLE001  it is raised again, where errors are answered
        environ[ERROR] = error  # something may have happened: it must not happen again
        return None


def _put_like(environ: dict[str, Any], request: Usual, _: str) -> Answer | None:
    return _set_like(environ, request.video, liked=True)


def _delete_like(environ: dict[str, Any], request: Usual, _: str) -> Answer | None:
    return _set_like(environ, request.video, liked=False)


def _set_like(environ: dict[str, Any], video: int, *, liked: bool) -> Answer | None:
    user = _caller(environ)
    if user is None or throttling.wait_seconds("like", user, environ):
        return None
    like = services.set_like(video_id=video, user_id=user, liked=liked)
    return Answer(serializers.like_body(like), like.stored)


def _post_view(environ: dict[str, Any], request: Usual, _: str) -> Answer | None:
    length = environ.get("CONTENT_LENGTH") or ""
    if environ.get("CONTENT_TYPE") != "application/json" or not (
        length.isascii() and length.isdecimal() and len(length) < 6 and 0 < int(length) <= BODY_BYTES
    ):
        return None
    user = _caller(environ)
    sent = environ["wsgi.input"].read(int(length))
    environ["wsgi.input"] = io.BytesIO(sent)  # the whole way reads it again
    viewer_id, watched = serializers.read_view(read_json(sent))
    if throttling.wait_seconds("view", user, environ):
        return None
    viewer = viewers.viewer_of(environ, user=user, sent=viewer_id)
    view = services.record_view(
        event=services.ViewEvent(request.video, viewer.name, user, watched, None, viewer.address, viewer.bot)
    )
    return Answer(serializers.view_body(view), view.stored)


def _get_like(environ: dict[str, Any], request: Usual, _: str) -> Answer | None:
    like = services.get_like(video_id=request.video, user_id=_caller(environ))
    return Answer(serializers.like_body(like), like.stored)


def _get_counts(environ: dict[str, Any], request: Usual, _: str) -> Answer | None:
    ids = _IDS.fullmatch(request.query)
    if ids is None:
        return None
    videos = serializers.read_ids(ids[1].replace("%2C", ","))
    counts = services.read_counts(video_ids=videos, user_id=_caller(environ))
    return Answer(serializers.json_body(serializers.count_data(counts)), counts.stored)


def _get_video(environ: dict[str, Any], request: Usual, _: str) -> Answer | None:
    user = _caller(environ)
    row = services.read_videos(video_ids=[request.video]).get(request.video)
    if row is None:
        return None
    counts = services.overlay_rows(rows=[row], user_id=user)
    return Answer(serializers.json_body(serializers.video_data([row], counts)[0]), counts.stored)


def _get_videos(environ: dict[str, Any], request: Usual, site: str) -> Answer | None:
    query = request.query
    if not _PAGE.fullmatch(query) or any(environ.get(name) for name in _PREFIXES):
        return None
    sent = [pair.split("=", 1) for pair in query.split("&")] if query else []
    params = {name: value.replace("%3D", "=") for name, value in sent}
    if len(params) < len(sent):
        return None
    user = _caller(environ)
    pages = VideoPagination()
    path = f"{site}{environ['PATH_INFO']}"
    rows = pages.paginate_all(Page(params, f"{path}?{query}" if query else path))
    counts = services.overlay_rows(rows=rows, user_id=user)
    data = pages.page_data(serializers.video_data(rows, counts))
    return Answer(serializers.json_body(data), counts.stored)


def _caller(environ: dict[str, Any]) -> int | None:
    """The id of the signed-in user, None for nobody. Raises APIException for a header that is not a good token."""
    header = environ.get("HTTP_AUTHORIZATION")
    if not header:
        return None
    user = user_of(header)
    if user is None:
        raise NotAuthenticated  # another scheme: the whole way knows what to make of it
    return user.id


_QUERIED: Final = frozenset({"counts", "videos"})
_ACTS: Final = {
    ("PUT", "like"): _put_like,
    ("POST", "like"): _put_like,
    ("DELETE", "like"): _delete_like,
    ("GET", "like"): _get_like,
    ("POST", "view"): _post_view,
    ("GET", "counts"): _get_counts,
    ("GET", "video"): _get_video,
    ("GET", "videos"): _get_videos,
}
