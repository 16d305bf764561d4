"""The usual calls, one function each: a Call in, an Answer out.

The express lane makes the Call from the WSGI environ, the views make it from Django REST framework's request. Both run
the same operation, and `errors` answers its errors for both.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, cast

from rest_framework.exceptions import NotAuthenticated, NotFound, PermissionDenied, Throttled, ValidationError

from videos import services
from videos.api import bodies, origins, throttling, viewers
from videos.api.answers import Answer, count_data, json_answer, like_answer, video_data, view_answer
from videos.api.pagination import KeysetPagination, Position, VideoPagination
from videos.changes import DISLIKE, LIKE, NOTHING
from videos.conf import conf
from videos.services import ViewEvent


class Call(NamedTuple):
    """The parts of a request that operations use."""

    meta: Mapping[str, Any]  # the WSGI environ, which names the client
    user_id: int | None  # None for an anonymous caller
    video_id: int = 0
    data: Callable[[], Any] = dict  # reads and parses the body
    query: Mapping[str, str] = {}
    uri: str = ""  # the absolute address, for links to other pages


class Operation(NamedTuple):
    """A usual call: its address, the function that answers it, and the callers that are allowed."""

    method: str
    address: str  # the name of its URL pattern
    act: Callable[[Call], Answer]
    scope: str | None = None  # of its throttle
    signed_in: bool = False


def run(operation: Operation, call: Call) -> Answer:
    """Check the caller and the rate, then answer the call. Raises the errors that `errors` answers."""
    _, _, act, scope, signed_in = operation
    if signed_in and call.user_id is None:
        raise NotAuthenticated
    if scope is not None:
        throttle(scope, call.user_id, call.meta)
    return act(call)


def throttle(scope: str, user_id: int | None, meta: Mapping[str, Any]) -> None:
    """Count a request. Raises Throttled beyond the rate of the scope."""
    wait = throttling.wait_seconds(scope, user_id, meta)
    if wait is not None:
        raise Throttled(math.ceil(wait))


def _get_like(call: Call) -> Answer:
    return like_answer(services.get_like(video_id=call.video_id, user_id=call.user_id))


def _set_mark(call: Call, *, value: int) -> Answer:
    user_id = cast(int, call.user_id)  # `run` refuses anonymous callers
    with contextlib.suppress(bodies.LengthRequired):  # a body without an end says nothing, and needs to say nothing
        bodies.refuse_other_wish(call.data(), value=value)
    return like_answer(services.set_mark(video_id=call.video_id, user_id=user_id, value=value))


def _set_dislike(call: Call, *, value: int) -> Answer:
    if not conf.DISLIKES:
        raise NotFound
    return _set_mark(call, value=value)


def _post_view(call: Call) -> Answer:
    meta, user_id, video_id, data, *_ = call
    if origins.is_of_another_site(meta):
        raise PermissionDenied("A page of another site does not count views.")
    viewer_id, watched = bodies.parse_view(data())
    name, address, network, bot, before = viewers.viewer_of(meta, user_id=user_id, sent=viewer_id)
    event = ViewEvent(video_id, name, user_id, watched, None, address, bot, network, before)
    return view_answer(services.record_view(event=event))


def _get_counts(call: Call) -> Answer:
    video_ids = bodies.parse_ids(call.query.get("ids"))
    counts = services.read_counts(video_ids=video_ids, user_id=call.user_id)
    return json_answer(count_data(counts), stored=counts.stored)


def _get_video(call: Call) -> Answer:
    return video_answer(services.read_video(video_id=call.video_id), call.user_id)


def video_answer(row: services.VideoRow, user_id: int | None, *, status: int = 200) -> Answer:
    """The answer with one video and its live totals."""
    counts = services.overlay_rows(rows=[row], user_id=user_id)
    (data,) = video_data([row], counts)
    return json_answer(data, stored=counts.stored, status=status)


def _get_videos(call: Call) -> Answer:
    text = bodies.parse_search(call.query.get("search", ""))
    pages = VideoPagination()
    window = pages.begin(call.query, call.uri)
    if window.by in services.TRENDS:
        if text:
            raise ValidationError({"ordering": ["What a search finds is not ordered by what trends."]})
        return trending_answer(pages, window, call.user_id)
    if text:
        throttle("search", call.user_id, call.meta)
    found = services.search_videos(text=text, window=window) if text else services.list_videos(window=window)
    rows = pages.end(found, lambda row: Position(row.value_of(window.by), row.id))
    counts = services.overlay_rows(rows=rows, user_id=call.user_id)
    return json_answer(pages.page_data(video_data(rows, counts)), stored=counts.stored)


def trending_answer(pages: KeysetPagination, window: services.Window, user_id: int | None) -> Answer:
    """A page of videos that trend, with their live totals."""
    found = pages.end(services.list_trending(window=window), lambda item: Position(item[0], item[1].id))
    rows = [row for _, row in found]
    counts = services.overlay_rows(rows=rows, user_id=user_id)
    return json_answer(pages.page_data(video_data(rows, counts)), stored=counts.stored)


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    (operation.method, operation.address): operation
    for operation in (
        Operation("GET", "like", _get_like),
        Operation("PUT", "like", partial(_set_mark, value=LIKE), scope="like", signed_in=True),
        Operation("POST", "like", partial(_set_mark, value=LIKE), scope="like", signed_in=True),
        Operation("DELETE", "like", partial(_set_mark, value=NOTHING), scope="like", signed_in=True),
        Operation("PUT", "dislike", partial(_set_dislike, value=DISLIKE), scope="like", signed_in=True),
        Operation("POST", "dislike", partial(_set_dislike, value=DISLIKE), scope="like", signed_in=True),
        Operation("DELETE", "dislike", partial(_set_dislike, value=NOTHING), scope="like", signed_in=True),
        Operation("POST", "view", _post_view, scope="view"),
        Operation("GET", "counts", _get_counts),
        Operation("GET", "video", _get_video),
        Operation("GET", "videos", _get_videos),
    )
}
