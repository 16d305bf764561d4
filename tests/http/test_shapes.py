"""The quick way to read a body or to write an answer gives what the serializers give."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import QueryDict
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer

from tests.support.doors import Call
from videos import services
from videos.api import answers, bodies, shapes
from videos.changes import COLUMNS, COUNTS, DISLIKE, LIKE, NOTHING, Totals
from videos.services import VideoRow

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
NUMBERS = st.integers(-(2**63), 2**63 - 1)
IDS = st.integers(1, 2**63 - 1)
TOTALS = st.builds(Totals, *[NUMBERS for _ in COUNTS])
VIDEO_COUNTS = st.builds(services.VideoCounts, TOTALS, st.sampled_from((None, NOTHING, LIKE, DISLIKE)))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
moments = st.datetimes(timezones=st.sampled_from([UTC])).map(datetime.isoformat) | st.timedeltas(
    timedelta(days=-9), timedelta(minutes=3)
).map(lambda age: (datetime.now(UTC) + age).isoformat())
view_bodies = json_values | st.fixed_dictionaries(
    {},
    optional={
        "viewer": st.from_regex(r"[A-Za-z0-9_.:+/=~-]{1,66}", fullmatch=True) | json_values,
        "watched": st.floats() | st.integers() | json_values,
    },
)
event_bodies = json_values | st.fixed_dictionaries(
    {"video": st.integers(0, 50) | json_values, "viewer": st.just("abc") | json_values},
    optional={"watched": st.floats(0, 1e6) | json_values, "at": moments | json_values},
)


def outcome(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ValidationError as error:
        return error.detail


@given(
    row=st.builds(
        VideoRow,
        id=IDS,
        title=WORDS,
        description=WORDS | st.sampled_from(["\u2028\u2029", "\\u2028", '"\\/', "\x00\x1f\x7f"]),
        url=WORDS,
        duration=st.integers(0, 2**31 - 1),
        owner_id=IDS,
        created_at=MOMENTS,
        totals=TOTALS,
    ),
    counts=st.none() | VIDEO_COUNTS,
    zone=st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns"]),
)
def test_a_video_is_shown_as_its_serializer_does(row: VideoRow, counts: services.VideoCounts | None, zone: str) -> None:
    count = counts or services.VideoCounts(row.totals)
    mark = {"liked": count.liked, "rating": shapes.RATINGS[count.mark]}
    values = row._asdict() | {"owner": row.owner_id, **mark, **dict(zip(COLUMNS, count.totals, strict=True))}
    with timezone.override(zone):
        expected = shapes.VideoSerializer([values], many=True).data
        shown = answers.video_data([row], services.Counts({row.id: counts} if counts else {}))
        assert answers.time_text(row.created_at) == expected[0]["created_at"]
    assert [list(one.items()) for one in shown] == [list(one.items()) for one in expected]
    assert answers.json_body(shown) == JSONRenderer().render(expected)


@given(counts=st.dictionaries(IDS, VIDEO_COUNTS, max_size=3))
def test_counts_are_shown_as_their_serializer_does(counts: dict[int, Any]) -> None:
    shown = answers.count_data(services.Counts(counts))
    assert [list(one.items()) for one in shapes.CountSerializer(shown, many=True).data] == [
        list(one.items()) for one in shown
    ]
    assert answers.json_body(shown) == JSONRenderer().render(shown)


@given(data=st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
))  # fmt: skip
def test_bodies_are_written_as_the_renderer_does(data: Any) -> None:
    assert answers.json_body({"": data}) == JSONRenderer().render({"": data})


@pytest.mark.parametrize("mark", [None, NOTHING, LIKE, DISLIKE])
@pytest.mark.parametrize("dislikes", [True, False])
def test_likes_and_views_are_answered_as_their_serializers_do(mark: int | None, dislikes: bool, settings: Any) -> None:
    settings.VIDEOS_DISLIKES = dislikes
    for made, serializer in (
        (answers.like_answer(services.LikeResult(1, mark, Totals(2, dislikes=3))), shapes.LikeSerializer),
        (answers.view_answer(services.View(1, True, "new", 2)), shapes.ViewResultSerializer),
    ):
        data = json.loads(made.body)
        assert list(serializer(data).data.items()) == list(data.items())


@given(body=view_bodies)
def test_a_view_is_parsed_as_its_serializer_does(body: Any) -> None:
    def serialized() -> Any:
        serializer = shapes.ViewSerializer(data=body)
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data.get("viewer"), serializer.validated_data.get("watched")

    assert outcome(lambda: bodies.parse_view(body)) == outcome(serialized)


@given(events=st.lists(event_bodies, max_size=5))
def test_events_are_parsed_as_their_serializer_does(events: list[Any]) -> None:
    def serialized() -> Any:
        serializer = shapes.ViewEventsSerializer(data={"events": events})
        serializer.is_valid(raise_exception=True)
        parsed = serializer.validated_data["events"]
        moments = [e["at"] and int(e["at"].timestamp() * 1000) if "at" in e else None for e in parsed]
        return [(e["video"], e["viewer"], e.get("watched"), ms) for e, ms in zip(parsed, moments, strict=True)]

    quick = outcome(lambda: bodies.parse_events({"events": events}))
    slow = outcome(serialized)
    if isinstance(slow, dict):
        assert {int(place) for place in quick["events"]} == {int(place) for place in slow["events"]}
    else:
        assert [(sent.video_id, sent.viewer, sent.watched, sent.at_ms) for sent in quick] == slow


@pytest.mark.database
@hypothesis_settings(max_examples=150)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]),
    path=st.sampled_from(
        [
            "/",
            *("/api/videos/", "/api/videos/{id}/", "/api/videos/{id}/like/", "/api/videos/{id}/likes/"),
            *("/api/videos/{id}/view/", "/api/videos/counts/", "/api/views/", "/api/me/likes/"),
            *("/api/token/", "/api/token/refresh/", "/api/schema/", "/api/docs/", "/api/videos/{id}"),
        ]
    ),
    number=st.integers(0, 3) | st.integers(0, 2**70),
    query=st.dictionaries(st.sampled_from(["ids", "cursor", "page_size", "ordering", "search"]), st.text(), max_size=2),
    body=json_values
    | view_bodies
    | st.fixed_dictionaries({"events": st.lists(event_bodies, max_size=3)})
    | st.binary(),
    token=st.sampled_from(["", "staff", "user"]) | st.binary().map(bytes.hex),
)
def test_whatever_is_sent_the_answer_is_never_a_fault_of_ours(
    call: Call,
    staff: User,
    user: User,
    *,
    method: str,
    path: str,
    number: int,
    query: dict[str, str],
    body: Any,
    token: str,
) -> None:
    who = {"staff": staff, "user": user}.get(token)
    headers = {} if who or not token else {"authorization": f"Bearer {token}"}
    parameters = QueryDict(mutable=True)
    parameters.update({key: value.encode("utf-8", "replace").decode() for key, value in query.items()})
    url = f"{path.format(id=number)}?{parameters.urlencode()}"
    response = call(method, url, user=who, body=body, **headers)
    assert response.status_code < 500
