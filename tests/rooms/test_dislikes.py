"""Dislikes in rows, batches and Redis: exact beside likes, whatever the user wished before."""

import itertools

import pytest
import redis

from tests.support.factories import make_users, make_videos
from tests.support.faults import install_ticks, redis_refusing
from videos import counters, services
from videos.changes import DISLIKE, LIKE, NOTHING, Totals
from videos.counters.keys import keys_of
from videos.flush import reconcile, run_flush
from videos.models import FlushBatch, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two wishes have the same time."""
    install_ticks(monkeypatch)


VALUES = (NOTHING, LIKE, DISLIKE)


def wish(video: int, user: int, value: int, *, away: bool = False) -> None:
    with redis_refusing(refuses=away):
        services.set_mark(video_id=video, user_id=user, value=value)


@pytest.mark.parametrize("away", list(itertools.product((False, True), repeat=2)))
@pytest.mark.parametrize("values", list(itertools.product(VALUES, repeat=3)))
def test_rows_and_counts_are_those_of_the_last_wish(values: tuple[int, ...], away: tuple[bool, bool]) -> None:
    """The first wish is flushed, the two after it are not: also past Redis."""
    (video,), (user,) = make_videos(1), make_users(1)
    wish(video, user, values[0])
    run_flush()
    for value, is_away in zip(values[1:], away, strict=True):
        wish(video, user, value, away=is_away)
    last = values[-1]
    right = Totals(int(last == LIKE), dislikes=int(last == DISLIKE))
    for _ in range(2):
        assert run_flush().failures == {}
    shown = services.read_counts(video_ids=[video], user_id=user).by_video[video]
    assert (shown.totals, shown.mark, Video.objects.get().totals) == (right, last, right)
    assert list(VideoLike.objects.values_list("value", flat=True)) == [last] * (last != NOTHING)
    hours = VideoHour.objects.values_list("likes", "dislikes")
    assert tuple(map(sum, zip(*hours, strict=True))) in {(right.likes, right.dislikes), ()}
    assert reconcile().differences == []


def test_a_batch_tells_what_it_moved() -> None:
    (video,), users = make_videos(1), make_users(4)
    for user, value in zip(users, (LIKE, DISLIKE, DISLIKE, LIKE), strict=True):
        wish(video, user, value)
    run_flush()
    for user, value in zip(users, (DISLIKE, LIKE, NOTHING, NOTHING), strict=True):
        wish(video, user, value)
    run_flush()
    moved = FlushBatch.objects.order_by("number").values_list(
        "likes_added", "likes_removed", "dislikes_added", "dislikes_removed"
    )
    assert list(moved) == [(2, 0, 2, 0), (1, 2, 1, 2)]


def test_a_field_tells_the_mark_that_it_replaces(redis_client: redis.Redis) -> None:
    (video,), users = make_videos(1), make_users(3)
    for user, value in zip(users, VALUES, strict=True):
        wish(video, user, value)
    run_flush()
    pending = keys_of(counters.shard_of(video)).pending
    for before, user in zip(VALUES, users, strict=True):
        for value in VALUES:
            if value == before:
                continue
            wish(video, user, value)
            text = str(redis_client.hget(pending, f"l:{video}:{user}"))
            short = {(NOTHING, LIKE), (NOTHING, DISLIKE), (LIKE, NOTHING)}
            assert text.endswith(f":s{before}") or (before, value) in short


def test_a_reconcile_finds_dislikes_that_differ_and_repairs_them() -> None:
    (video,), users = make_videos(1), make_users(3)
    VideoLike.objects.bulk_create(VideoLike(video_id=video, user_id=user, value=DISLIKE) for user in users)
    Video.objects.update(like_count=2)
    found = reconcile(repair=True).differences
    assert {(one["column"], one["stored"], one["counted"]) for one in found} == {
        ("like_count", 2, 0),
        ("dislike_count", 0, 3),
    }
    run_flush()
    assert Video.objects.get().totals == Totals(dislikes=3)
    assert reconcile().differences == []


def test_dislikes_made_outside_the_service_are_counted_when_they_go() -> None:
    (video,), users = make_videos(1), make_users(2)
    VideoLike.objects.bulk_create(VideoLike(video_id=video, user_id=user, value=DISLIKE) for user in users)
    wish(video, users[0], LIKE)
    run_flush()
    assert Video.objects.get().totals == Totals(1, dislikes=1)


def test_deleting_a_user_takes_the_dislikes_out_of_the_counts() -> None:
    from django.contrib.auth.models import User

    (one, other), (user, stays) = make_videos(2), make_users(2)
    for video, value in ((one, DISLIKE), (other, LIKE)):
        wish(video, user, value)
        wish(video, stays, value)
    run_flush()
    User.objects.get(pk=user).delete()
    run_flush()
    assert {row.pk: row.totals for row in Video.objects.all()} == {one: Totals(dislikes=1), other: Totals(1)}
    shown = services.read_counts(video_ids=[one, other], user_id=None).by_video
    assert (shown[one].totals, shown[other].totals) == (Totals(dislikes=1), Totals(1))
    assert reconcile().differences == []
