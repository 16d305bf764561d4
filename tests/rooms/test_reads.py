"""Rows as readers are shown them: read by hand-written statements as Django would read them."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.factories import make_video, make_videos
from videos import counters, services
from videos.changes import ORDERS, Totals
from videos.ledger import reads
from videos.models import Video, VideoLike
from videos.services import VideoRow, Window

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
NUMBERS = st.integers(-(2**63), 2**63 - 1)


@given(title=WORDS, description=WORDS, created_at=MOMENTS, count=NUMBERS, duration=st.integers(0, 2**31 - 1))
@hypothesis_settings(max_examples=25)
def test_rows_are_read_as_django_reads_them(  # noqa: PLR0917
    user: User, title: str, description: str, created_at: datetime, count: int, duration: int
) -> None:
    video = make_video(
        user, title=title, description=description, created_at=created_at, duration=duration,
        like_count=count, view_count=-1 - count,
    )  # fmt: skip
    expected = VideoRow.of(Video.objects.get(pk=video.pk))
    assert reads.read_videos([video.pk]) == {video.pk: expected}
    newest = reads.nearest_videos(Window("created_at", False, (created_at, video.pk - 1), 1))
    assert newest == [expected]
    video.delete()


@pytest.mark.parametrize("by", sorted(ORDERS))
@pytest.mark.parametrize("falling", [False, True])
def test_rows_are_ordered_as_django_orders_them(user: User, by: str, falling: bool) -> None:
    for i in range(12):
        make_video(user, like_count=i % 3, view_count=i // 2, created_at=FIRST + timedelta(i % 4))
    sign = "-" if falling else ""
    ordered = list(Video.objects.order_by(f"{sign}{by}", f"{sign}id"))
    assert [row.id for row in reads.nearest_videos(Window(by, falling, None, 99))] == [video.pk for video in ordered]
    for place in (0, 5, 11):
        beyond = getattr(ordered[place], by), ordered[place].pk
        rows = reads.nearest_videos(Window(by, falling, beyond, 4))
        assert [row.id for row in rows] == [video.pk for video in ordered[place + 1 : place + 5]]


def test_no_other_order_gets_into_a_statement() -> None:
    with pytest.raises(ValueError, match="not ordered by title"):
        reads.nearest_videos(Window("title", True, None, 1))


def test_nothing_but_ids_gets_into_a_statement(user: User) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        reads.liked_among(["1) OR (1=1"], user.pk)  # type: ignore[list-item]


def test_likes_and_counts_are_those_of_the_rows(user: User) -> None:
    liked, other = make_videos(2)
    VideoLike.objects.create(video_id=liked, user=user)
    Video.objects.filter(pk=liked).update(like_count=1, view_count=7)
    asked = [liked, other, 987654321]
    assert reads.liked_among(asked, user.pk) == {liked}
    assert reads.read_counts(asked, user.pk) == {liked: (Totals(1, 7), True), other: (Totals(), False)}
    assert reads.read_counts(asked, None) == {liked: (Totals(1, 7), False), other: (Totals(), False)}
    assert reads.read_counts([], user.pk) == {}


def test_cold_counts_cost_one_query(user: User) -> None:
    videos = make_videos(3)
    VideoLike.objects.create(video_id=videos[1], user=user)
    counters.depths()  # Redis and the database meet
    with CaptureQueriesContext(connection) as queries:
        counts = services.read_counts(video_ids=videos, user_id=user.pk)
    assert len(queries) == 1
    assert [counts.by_video[video].liked for video in videos] == [False, True, False]


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("noticed", [False, True])
def test_a_connection_that_the_server_closed_is_opened_again(user: User, noticed: bool) -> None:
    (video,) = make_videos(1)
    counters.depths()  # Redis and the database meet
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        (number,) = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute(f"KILL CONNECTION {int(number)}")
    other.close()
    if noticed:  # the driver closes its descriptor, and something else gets the number
        with pytest.raises(OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    with Path(os.devnull).open("rb"):
        assert services.read_counts(video_ids=[video], user_id=user.pk).by_video[video] == (Totals(), False)


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
@pytest.mark.parametrize(("usable", "seconds", "asked"), [(False, 0, 2), (True, 0, 1), (False, 2, 1)])
def test_only_what_met_a_closed_connection_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], usable: bool, seconds: int, asked: int
) -> None:
    clock = [0.0]
    tries: list[str] = []

    def fail(statement: str, _: Any) -> Any:
        tries.append(statement)
        clock[0] += seconds
        raise error("gone")

    connection.ensure_connection()
    monkeypatch.setattr(reads, "_fetch", fail)
    monkeypatch.setattr(reads, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(connection, "is_usable", lambda: usable)
    with pytest.raises(services.Unavailable):
        services.read_videos(video_ids=[1])
    assert len(tries) == asked
