"""Answers, for the express lane and for Django's way. The serializers of `shapes` describe their data.

Serializers would take twenty times as long for a page, so they are not used. Tests compare both results.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NamedTuple

from django.utils import timezone

from videos import services
from videos.api.shapes import RATINGS
from videos.changes import COLUMNS
from videos.conf import conf
from videos.services import VideoRow

COUNTS_HEADER: Final = "X-Counts"  # "stored": the numbers come from the rows, because Redis is away
_STORED: Final = ((COUNTS_HEADER, "stored"),)

_LITERALS: Final = {True: "true", False: "false", None: "null"}
_RATING_TEXTS: Final = {value: json.dumps(rating) for value, rating in RATINGS.items()}
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


class Answer(NamedTuple):
    """A JSON body, and the headers that belong to this answer alone."""

    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200


def json_answer(data: Any, *, stored: bool = False, status: int = 200) -> Answer:
    """The answer with this data. `stored`: its numbers come from the rows, because Redis is away."""
    return Answer(json_body(data), _STORED if stored else (), status)


def like_answer(like: services.LikeResult) -> Answer:
    """The answer to GET, PUT, POST and DELETE of a like or a dislike."""
    # Written by hand: the encoder takes a microsecond longer, and this whole package takes six for a like.
    body = f'"id":{like.video_id},"liked":{_LITERALS[like.liked]},"like_count":{like.totals.likes}'
    if conf.DISLIKES:
        body += f',"rating":{_RATING_TEXTS[like.mark]},"dislike_count":{like.totals.dislikes}'
    return Answer(f"{{{body}}}".encode(), _STORED if like.stored else ())


def view_answer(view: services.View) -> Answer:
    """The answer to a view."""
    counted = _LITERALS[view.counted]
    body = f'{{"id":{view.video_id},"counted":{counted},"reason":"{view.reason}","view_count":{view.views}}}'
    return Answer(body.encode(), _STORED if view.stored else ())


def json_body(data: Any) -> bytes:
    """JSON, byte for byte as Django REST framework's renderer writes it."""
    return _encode(data).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()


def video_data(rows: Iterable[VideoRow], counts: services.Counts) -> list[dict[str, Any]]:
    """Videos with the numbers now, as VideoSerializer describes them."""
    zone, by_video = timezone.get_current_timezone(), counts.by_video
    in_utc = str(zone) == "UTC"  # as rows are: nothing to convert
    data = []
    for video_id, title, description, url, duration, owner_id, created_at, stored in rows:
        count = by_video.get(video_id) or services.VideoCounts(stored)  # deleted meanwhile: the row's
        data.append({
            "id": video_id,
            "title": title,
            "description": description,
            "url": url,
            "duration": duration,
            "owner": owner_id,
            "created_at": (
                f"{created_at.isoformat()[:-6]}Z"
                if in_utc and created_at.tzinfo is UTC
                else time_text(created_at, zone)
            ),
            **_numbers(count),
        })  # fmt: skip
    return data


def time_text(at: datetime, zone: tzinfo | None = None) -> str:
    """A time as Django REST framework writes it."""
    text = at.astimezone(zone or timezone.get_current_timezone()).isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def count_data(counts: services.Counts) -> list[dict[str, Any]]:
    """Numbers of videos, as CountSerializer describes them."""
    return [{"id": video_id, **_numbers(count)} for video_id, count in counts.by_video.items()]


def _numbers(count: services.VideoCounts) -> dict[str, Any]:
    numbers: dict[str, Any] = dict(zip(COLUMNS, count.totals, strict=True))
    numbers |= {"liked": count.liked, "rating": RATINGS[count.mark]}
    return services.without_dislikes(numbers)
