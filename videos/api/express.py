"""The express lane: recognises usual requests, and makes a Call of their WSGI environ.

Django's handler and Django REST framework's dispatch take three times as long as a warm like itself. So `handler` runs
the operation of a usual request without them. Django answers every other request, such as one with a session. This
module decides before anything is done. Once there is a Call, the express lane answers errors too.
"""

import re
from collections.abc import Mapping
from typing import IO, Any, Final, NamedTuple

from django.conf import settings

from videos.api.authentication import user_of
from videos.api.bodies import USUAL_BYTES, length_of, parse_json, read_whole
from videos.api.negotiation import takes_json
from videos.api.operations import OPERATIONS, Call, Operation
from videos.conf import conf

_QUERIED: Final = frozenset({"counts", "videos"})
_PATH: Final = re.compile(r"/api/videos/(?:([1-9][0-9]{0,17})/(?:(like|dislike|view)/)?|(counts)/)?")
_IDS: Final = re.compile(r"ids=([0-9]+(?:(?:,|%2C)[0-9]+)*)")
_PAGE: Final = re.compile(r"(?:(?:\A|(?<!\A)&)(?:page_size|ordering|cursor)=[A-Za-z0-9_-]+(?:=|%3D){0,2})*")
_VIEW_TYPES: Final = frozenset({"application/json", "text/plain", "text/plain;charset=UTF-8"})  # the last: of a beacon
_PREFIXES: Final = ("SCRIPT_NAME", "SCRIPT_URL", "REDIRECT_URL")  # Django makes the prefix of links from these
_JSON: Final = frozenset({"application/json"})
_NO_BODY: Final = frozenset({None, "", "0"})  # as a Content-Length
_CSRF_SECRET: Final = re.compile(r"=[A-Za-z0-9]{32}(?:[A-Za-z0-9]{32})?(?:;|\Z)")


class UsualRequest(NamedTuple):
    """A request that looks like a usual one."""

    operation: Operation
    video_id: int  # 0 if the address has none
    query: str


def recognise(environ: Mapping[str, Any]) -> UsualRequest | None:
    """The operation of a request whose address and headers are usual; None for any other request."""
    match = _PATH.fullmatch(environ.get("PATH_INFO", ""))
    if match is None:
        return None
    video_id, of_video, counts = match.groups()
    address = (of_video or "video") if video_id else (counts or "videos")
    operation = OPERATIONS.get((environ["REQUEST_METHOD"], address))
    query = environ.get("QUERY_STRING") or ""
    cookies = environ.get("HTTP_COOKIE")
    if (
        operation is None
        or (query and address not in _QUERIED)
        or not takes_json(environ.get("HTTP_ACCEPT", ""))
        or (cookies and not _changes_nothing(cookies))
        or not conf.EXPRESS
    ):
        return None
    return UsualRequest(operation, int(video_id or 0), query)


def _changes_nothing(cookies: str) -> bool:
    """Whether these cookies hold neither a session nor a CSRF secret that Django would replace."""
    if settings.SESSION_COOKIE_NAME in cookies:
        return False
    _, csrf, rest = cookies.partition(settings.CSRF_COOKIE_NAME)
    return not csrf or (_CSRF_SECRET.match(rest) is not None and csrf not in rest)


def call_of(environ: Mapping[str, Any], request: UsualRequest, site: str) -> Call | None:
    """The Call of a usual request; None if its body or its query is unusual. Raises APIException.

    `site` is the scheme and the host of absolute addresses.
    """
    operation, video_id, query = request
    address = operation.address
    if address == "view" or (operation.signed_in and _may_have_body(environ)):
        length = length_of(environ)
        types = _VIEW_TYPES if address == "view" else _JSON
        if length is None or length > USUAL_BYTES or environ.get("CONTENT_TYPE") not in types:
            return None
        return Call(environ, _caller(environ), video_id, lambda: _body_of(environ["wsgi.input"], length))
    if address in _QUERIED:
        named = _ids_query(query) if address == "counts" else _page_query(query, environ)
        if named is None:
            return None
        uri = f"{site}{environ['PATH_INFO']}"
        return Call(environ, _caller(environ), query=named, uri=f"{uri}?{query}" if query else uri)
    return Call(environ, _caller(environ), video_id)


def _caller(environ: Mapping[str, Any]) -> int | None:
    """The id of the signed-in user, None for an anonymous one. Raises APIException for an invalid token."""
    header = environ.get("HTTP_AUTHORIZATION")
    user = user_of(header) if header else None
    return None if user is None else user.id


def _ids_query(query: str) -> dict[str, str] | None:
    ids = _IDS.fullmatch(query)
    return {"ids": ids[1].replace("%2C", ",")} if ids else None


def _page_query(query: str, environ: Mapping[str, Any]) -> dict[str, str] | None:
    if not _PAGE.fullmatch(query) or any(environ.get(name) for name in _PREFIXES):
        return None
    pairs = [pair.split("=", 1) for pair in query.split("&")] if query else []
    named = {name: value.replace("%3D", "=") for name, value in pairs}
    return named if len(named) == len(pairs) else None


def _may_have_body(environ: Mapping[str, Any]) -> bool:
    return environ.get("CONTENT_LENGTH") not in _NO_BODY or "HTTP_TRANSFER_ENCODING" in environ


def _body_of(stream: IO[bytes], length: int) -> Any:
    return parse_json(read_whole(stream, length)) if length else {}
