"""Scripts that are held up, replies that are lost, clocks that differ: nothing counts twice, no wish is undone."""

import datetime as dt
import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User

from servers import RedisServer
from tests.support.faults import end_pauses, redis_refusing
from tests.support.proxy import Proxy
from videos import counters, ledger, services
from videos.changes import Totals, moment
from videos.counters import clock, connection, scripts
from videos.flush import reconcile, run_flush
from videos.ledger import doubts
from videos.models import Video, VideoLike
from videos.services import Unavailable, ViewEvent

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def set_like(video: Video, user: User, *, liked: bool) -> services.LikeResult:
    return services.set_like(video_id=video.id, user_id=user.id, liked=liked)


def write_view_to_rows(video: Video, viewer: str) -> None:
    with redis_refusing():
        assert services.record_view(event=ViewEvent(video.id, viewer)).stored
    end_pauses()


def flushed(video: Video) -> tuple[int, int, int]:
    """Likes, like rows and views after two flushes; the live totals must say the same."""
    end_pauses()
    for _ in range(2):
        assert run_flush().failures == {}
    video.refresh_from_db()
    live = counters.lookup([video.id], None)[video.id].totals
    assert live in {None, video.totals}
    return video.like_count, VideoLike.objects.filter(video=video).count(), video.view_count


@pytest.mark.parametrize("first", [True, False])
def test_a_wish_that_is_held_up_does_not_undo_the_next_one(
    redis_proxy: Proxy, video: Video, user: User, *, first: bool
) -> None:
    set_like(video, user, liked=not first)
    redis_proxy.hold = b"EVALSHA"
    assert set_like(video, user, liked=first).stored
    redis_proxy.heal()
    end_pauses()
    time.sleep(0.02)  # longer than a reading of the clock
    assert not set_like(video, user, liked=not first).stored

    late = redis_proxy.held
    redis_proxy.deliver()
    time.sleep(0.3)

    assert late == 1
    likes = int(not first)
    assert flushed(video) == (likes, likes, 0)


@pytest.mark.parametrize("forgets", ["expiry", "reconcile"])
@pytest.mark.parametrize("waits", [False, True], ids=["repeated", "taken back"])
def test_a_wish_that_changes_nothing_in_redis_undoes_one_in_the_rows(
    redis_client: Any, video: Video, user: User, *, waits: bool, forgets: str
) -> None:
    """However late the flush: Redis forgets who likes what before it comes."""
    set_like(video, user, liked=False)
    run_flush()
    if waits:
        set_like(video, user, liked=True)
    with redis_refusing():
        set_like(video, user, liked=True)
    time.sleep(0.002)
    assert set_like(video, user, liked=False).liked is False
    if forgets == "reconcile":
        reconcile(repair=True)
    else:
        redis_client.delete(*redis_client.scan_iter("*:liked:*"))
    assert flushed(video) == (0, 0, 0)


def test_a_view_that_is_held_up_counts_once(redis_proxy: Proxy, video: Video) -> None:
    event = ViewEvent(video.id, "v")
    services.record_view(event=ViewEvent(video.id, "other"))
    redis_proxy.hold = b"EVALSHA"
    with pytest.raises(Unavailable):
        services.record_view(event=event)
    redis_proxy.heal()
    end_pauses()
    assert services.record_view(event=event).reason == "new"
    redis_proxy.deliver()
    time.sleep(0.3)
    assert flushed(video) == (0, 0, 2)


def test_a_settling_that_is_held_up_sets_no_old_totals(
    redis_proxy: Proxy, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FLUSH_TIMEOUT_SECONDS", 0.5)
    services.record_view(event=ViewEvent(video.id, "v0"))
    run_flush()
    write_view_to_rows(video, "v1")
    redis_proxy.hold = scripts.RESYNC.sha.encode()
    assert run_flush().failed
    redis_proxy.heal()
    write_view_to_rows(video, "v2")
    assert flushed(video) == (0, 0, 3)

    late = redis_proxy.held
    redis_proxy.deliver()
    time.sleep(0.3)

    assert late == 1
    assert counters.lookup([video.id], None)[video.id].totals == Totals(likes=0, views=3)


def test_a_script_that_comes_late_says_so_and_does_nothing(
    own_redis: RedisServer, video: Video, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = own_redis.client()
    set_like(video, user, liked=True)
    monkeypatch.setattr(clock, "MARGIN_SECONDS", 60)
    with pytest.raises(counters.CountersUnavailable, match="LATE") as raised:
        counters.view([ViewEvent(video.id, "v")])
    assert raised.value.uncertain is False
    assert list(client.scan_iter("*seen*")) == []
    assert set_like(video, user, liked=False).stored
    monkeypatch.undo()
    assert services.record_view(event=ViewEvent(video.id, "v")).reason == "new"
    assert flushed(video) == (0, 0, 1)


def test_the_rows_are_not_written_before_the_deadline_of_a_cut_script(
    redis_proxy: Proxy, video: Video, user: User
) -> None:
    set_like(video, user, liked=True)
    redis_proxy.cut_replies = True
    began = time.monotonic()
    assert set_like(video, user, liked=False).stored
    waited = time.monotonic() - began
    assert 0.2 < waited < 0.5
    redis_proxy.heal()
    assert flushed(video) == (0, 0, 0)


@pytest.mark.parametrize("then", ["cut_replies", "refuse", "pause"])
def test_a_view_that_may_have_counted_is_not_counted_again_while_redis_is_in_trouble(
    redis_proxy: Proxy, video: Video, then: str
) -> None:
    event = ViewEvent(video.id, "v")
    services.record_view(event=ViewEvent(video.id, "other"))
    redis_proxy.cut_replies = True
    with pytest.raises(Unavailable):
        services.record_view(event=event)
    if then == "refuse":
        redis_proxy.refuse()
    for _ in range(3):
        if then != "pause":
            end_pauses()
        for act in (lambda: services.record_view(event=event), lambda: services.record_views(events=[event])):
            with pytest.raises(Unavailable):
                act()
    redis_proxy.heal()
    end_pauses()
    assert services.record_view(event=event).reason == "seen"
    assert flushed(video) == (0, 0, 2)


def test_a_batch_of_which_a_part_may_have_counted_is_not_counted_again(redis_proxy: Proxy, video: Video) -> None:
    events = [ViewEvent(video.id, f"v{number}") for number in range(3)]
    services.record_view(event=ViewEvent(video.id, "other"))
    redis_proxy.cut_replies = True
    with pytest.raises(Unavailable):
        services.record_views(events=events)
    with redis_refusing(), pytest.raises(Unavailable):
        services.record_views(events=events[:1])
    with redis_refusing():
        assert services.record_views(events=[ViewEvent(video.id, "v9")]).counted == 1
    redis_proxy.heal()
    end_pauses()
    assert services.record_views(events=events).ignored == {"seen": 3}
    assert flushed(video) == (0, 0, 5)


def test_a_doubt_ends_with_its_window(redis_away: None, video: Video, settings: Any) -> None:
    now = moment(counters.now_ms())
    ledger.note_doubts([(video.id, "v")], now=now)
    assert ledger.has_doubts([(video.id, "v")], now=now)
    assert not ledger.has_doubts([(video.id, "V"), (video.id + 1, "v")], now=now)
    settings.VIDEOS_VIEW_WINDOW_SECONDS = 0
    assert services.record_view(event=ViewEvent(video.id, "v")).counted


def test_a_doubt_begins_anew_when_the_view_is_sent_again(video: Video) -> None:
    now = moment(counters.now_ms())
    for seconds in (3600, 0):
        ledger.note_doubts([(video.id, "v")], now=now - dt.timedelta(seconds=seconds))
    assert ledger.has_doubts([(video.id, "v")], now=now)


@pytest.mark.parametrize("step_seconds", [-3600, 3600])
def test_a_doubt_ends_with_its_window_by_the_clock_of_redis(
    redis_proxy: Proxy, video: Video, monkeypatch: pytest.MonkeyPatch, step_seconds: int
) -> None:
    """A web server whose wall clock is set, or stands wrong, counts no view again."""
    ahead_seconds = min(step_seconds, 0)

    class Wrong(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return dt.datetime.now(tz) + dt.timedelta(seconds=ahead_seconds)

    monkeypatch.setattr(doubts, "datetime", Wrong)
    monkeypatch.setattr(
        clock, "time", SimpleNamespace(time=lambda: time.time() + ahead_seconds, monotonic=time.monotonic)
    )
    event = ViewEvent(video.id, "v")
    services.record_view(event=ViewEvent(video.id, "other"))
    redis_proxy.cut_replies = True
    with pytest.raises(Unavailable):
        services.record_view(event=event)
    ahead_seconds = max(step_seconds, 0)
    redis_proxy.refuse()
    end_pauses()
    with pytest.raises(Unavailable):
        services.record_view(event=event)
    redis_proxy.heal()
    assert flushed(video) == (0, 0, 2)


@pytest.mark.parametrize("liked", [False, True])
@pytest.mark.parametrize("step_seconds", [-3600, 3600])
def test_a_wall_clock_that_is_set_while_redis_is_away_undoes_no_wish(
    video: Video, user: User, monkeypatch: pytest.MonkeyPatch, step_seconds: int, liked: bool
) -> None:
    set_like(video, user, liked=not liked)
    time.sleep(0.02)  # longer than a reading of the clock
    with monkeypatch.context() as patch, redis_refusing():
        patch.setattr(clock, "time", SimpleNamespace(time=lambda: time.time() + step_seconds, monotonic=time.monotonic))
        assert set_like(video, user, liked=liked).stored
        time.sleep(0.02)
    assert flushed(video)[0] == liked
    set_like(video, user, liked=not liked)
    assert flushed(video)[0] != liked


def test_a_clock_that_was_set_is_believed_at_its_next_reading() -> None:
    was = clock.Skew(1000, 0.001, 5000)
    for seconds, error, is_better in ((1000.001, 0.01, False), (1000.001, 0.001, True), (4600, 0.01, True)):
        assert clock.Skew(seconds, error, 5001).is_better_than(was) is is_better


@pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
def test_wishes_have_the_time_of_redis_whatever_the_clocks_of_the_web_servers_say(
    video: Video, user: User, redis_client: Any, monkeypatch: pytest.MonkeyPatch, ahead_seconds: int
) -> None:
    """The last wish wins, although each is written by a process whose clock stands an hour before or behind."""
    wrong = SimpleNamespace(time=lambda: time.time() + ahead_seconds, monotonic=time.monotonic, sleep=time.sleep)
    set_like(video, user, liked=True)
    for liked, away in ((False, True), (True, False), (False, True)):
        with monkeypatch.context() as patch:
            patch.setattr(clock, "time", wrong)
            patch.setattr(connection, "time", wrong)
            clock.forget()
            connection._leases.request = None
            counters.lookup([video.id], None)  # this process reads the clock of Redis
            time.sleep(0.01)
            with redis_refusing(refuses=away):
                assert set_like(video, user, liked=liked).stored is away
    time.sleep(0.01)
    pending = redis_client.hvals(f"{{videos:{counters.shard_of(video.id)}}}:pending")
    assert all(abs(int(value.split(":")[1]) - time.time() * 1000) < 60_000 for value in pending)
    assert flushed(video) == (0, 0, 0)
