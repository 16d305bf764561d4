"""Each field of a batch has its outcome, each total is made exact, and no script acts for a flush of before.

Over 250 lines: all of it is about one shard and its keys.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from tests.support.factories import make_users, make_videos
from tests.support.load import check_batches
from videos import counters, ledger, services
from videos.changes import HOUR_SECONDS, LIKE, NOTHING, StaleVideo, Totals, VideoFacts
from videos.conf import conf
from videos.counters import Batch, Confirmation
from videos.counters import connection as wire
from videos.counters.keys import keys_of, recent_key
from videos.counters.requests import forgotten_seconds
from videos.flush import reconcile, run_flush
from videos.ledger import sql
from videos.ledger.batches import NO_SUMS
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

HOUR = int(time.time()) // HOUR_SECONDS - 500  # since 1970
FULL = 2**63 - 20


@pytest.fixture(autouse=True)
def one_shard(settings: Any) -> None:
    settings.VIDEOS_SHARDS = 1
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 3


KEYS = keys_of(0)


@pytest.mark.parametrize("chunk", [3, 1000])
def test_every_field_has_its_outcome(chunk: int, redis_client: Any, settings: Any) -> None:
    """Good, malformed, refused by the database alone and together, of a video and of a user that are gone."""
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = chunk
    good, full, fuller, gone = sorted(make_videos(4))
    (user, other) = make_users(2)
    Video.objects.filter(pk__in=(full, fuller)).update(view_count=FULL)
    Video.objects.filter(pk=gone).delete()
    for video in (good, full, fuller):
        services.set_like(video_id=video, user_id=user, liked=True)
    now = int(time.time() * 1000)
    fields = {
        f"l:{good}:{other}": f"0:{now}",  # an unlike without a like: nothing moves
        f"l:{good}:{other + 1}": f"1:{now}",
        f"v:{good}:{HOUR}": "3",
        f"v:{good}:{HOUR + 1}": "4",
        f"l:{good}:0": "1:1",
        "nonsense": "1",
        f"v:{full}:{HOUR}": "5",
        f"v:{full}:{HOUR + 1}": "1000",
        f"v:{fuller}:{HOUR}": "15",
        f"v:{fuller}:{HOUR + 1}": "15",
        f"l:{gone}:{user}": f"1:{now}",
        f"v:{gone}:{HOUR}": "2",
    }
    redis_client.hset(KEYS.pending, mapping=fields)
    redis_client.hset(KEYS.sums, f"views:{good}", 7)
    report = run_flush()
    assert report.failures == {}
    assert (report.fields, report.applied, report.repeated, report.dropped, report.rejected) == (15, 7, 0, 3, 5)
    assert report.sums == NO_SUMS | {"videos": 3, "likes_added": 3, "views": 12}
    batch = FlushBatch.objects.get()
    assert (batch.fields, batch.applied, batch.dropped, batch.rejected) == (15, 7, 3, 5)
    assert (batch.likes_added, batch.likes_removed, batch.views) == (3, 0, 12)
    rejected = ("nonsense", f"l:{good}:0", f"v:{full}:{HOUR + 1}", f"v:{fuller}:{HOUR}", f"v:{fuller}:{HOUR + 1}")
    assert redis_client.hgetall(KEYS.rejected) == {f"{batch.number}:{name}": fields[name] for name in rejected}
    assert redis_client.hlen(KEYS.done(batch.number)) == 10
    totals = {row.pk: row.totals for row in Video.objects.all()}
    assert totals == {good: Totals(1, 7), full: Totals(1, FULL + 5), fuller: Totals(1, FULL)}
    assert counters.lookup([good], None)[good].totals == totals[good]
    hours = {
        (row.video_id, row.hour.timestamp() // HOUR_SECONDS): row.views for row in VideoHour.objects.filter(views__gt=0)
    }
    assert hours == {(good, HOUR): 3, (good, HOUR + 1): 4, (full, HOUR): 5}
    assert set(VideoLike.objects.values_list("video_id", "user_id")) == {(video, user) for video in totals}
    check_batches()
    assert reconcile().differences == []
    again = run_flush()
    assert (again.failures, again.fields, again.batches) == ({}, 0, 0)


def state_of(client: Any) -> dict[str, Any]:
    return {key: client.dump(key) for key in client.scan_iter("{videos:0}:*")}


def like(video: int, user: int, *, liked: bool = True) -> None:
    services.set_like(video_id=video, user_id=user, liked=liked)


def claimed() -> tuple[counters.Kept, Batch]:
    """What a flush begins with, and the batch that it claims."""
    kept = counters.read_kept([0])[0]
    batch = Batch.claim(shard=0, fence=kept.fence, floor=kept.last, newest=kept.last, at_ms=counters.now_ms()).batch
    assert batch is not None
    return kept, batch


def test_scripts_do_nothing_for_a_flush_of_before(redis_client: Any) -> None:
    """Neither after another meeting of Redis and the database, nor once another batch was claimed."""
    (video,), (user,) = make_videos(1), make_users(1)
    like(video, user)
    run_flush()
    like(video, user, liked=False)
    kept, batch = claimed()
    names = [name.decode() for name, _ in next(batch.scan()) or ()]
    confirmation = Confirmation(video, Totals(0, 0), applied=names)
    before = state_of(redis_client)
    stale = batch._replace(fence=batch.fence - 1)
    done = counters.DoneBatch(*stale)._replace(number=kept.tail)
    facts = {video: StaleVideo(VideoFacts(Totals(9, 9), 1, 1), [])}
    acts: list[Callable[[], Any]] = [
        lambda: Batch.claim(shard=0, fence=stale.fence, floor=9, newest=9, at_ms=1),
        lambda: list(stale.scan()),
        lambda: list(done.scan()),
        lambda: stale.confirm([confirmation]),
        lambda: stale.give_back(video, names),
        stale.sums,
        stale.close,
        done.renew,
        lambda: counters.drop_kept(0, stale.fence, [kept.tail], forget=True),
        lambda: counters.resync(shard=0, fence=stale.fence, last=batch.number, stale=facts),
    ]
    for act in acts:
        with pytest.raises(counters.Unmet):
            act()
    late = batch._replace(number=batch.number + 1)
    assert list(late.scan()) == [None]
    assert not late.confirm([confirmation])
    assert not late.give_back(video, names)
    assert (batch.sums(), late.sums(), late.close()) == (None, None, None)
    assert counters.resync(shard=0, fence=kept.fence, last=batch.number, stale=facts) == set()
    assert state_of(redis_client) == before
    assert batch.confirm([Confirmation(video, Totals(0, 0), applied=names + names)])  # it leaves claimed once
    assert batch.sums() == batch.sums() == (1, 0, 0, 0)
    late.close()
    assert counters.read_kept([0])[0].is_open


@pytest.mark.parametrize("change", [{}, {"meeting": "old", "unmarked_until": "9999999999"}, {"primed": "0"}])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_confirm_makes_live_exact(
    change: dict[str, str], meanwhile: bool, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever live said before, and although a like came in while the batch was open."""
    (video,), users = make_videos(1), make_users(3)
    live = KEYS.live(video)
    like(video, users[0])
    run_flush()
    like(video, users[1])
    services.record_view(event=services.ViewEvent(video, "v"))
    redis_client.hset(live, mapping={"likes": "70", "views": "0", "primed": "1"} | change)
    apply = ledger.apply

    def like_meanwhile(*args: Any, **options: Any) -> Any:
        if meanwhile and change.get("meeting") is None:
            like(video, users[2])
        return apply(*args, **options)

    monkeypatch.setattr(ledger, "apply", like_meanwhile)
    assert run_flush().failures == {}
    found = redis_client.hgetall(live)
    more = int(meanwhile and change.get("meeting") is None)
    assert (found["likes"], found["views"]) == (str(2 + more), "1")
    assert found["meeting"] == redis_client.hget(KEYS.batch, "meeting")
    assert "primed" not in found
    assert ("unmarked_until" in found) is (change.get("meeting") is None)
    limit = conf.LIVE_SECONDS if more else conf.LIVE_SETTLED_SECONDS
    assert limit - 5 <= redis_client.ttl(live) <= limit


def test_a_confirm_makes_no_live_key_and_removes_that_of_a_video_that_is_gone(redis_client: Any) -> None:
    (one, other), (user,) = make_videos(2), make_users(1)
    for video in (one, other):
        like(video, user)
    redis_client.delete(KEYS.live(one))
    _, batch = claimed()
    assert batch.confirm([Confirmation(one, Totals(1, 0), applied=[f"l:{one}:{user}"])])
    assert batch.confirm([Confirmation(other, None, dropped=[f"l:{other}:{user}"])])
    assert redis_client.exists(KEYS.live(one), KEYS.live(other), KEYS.claimed) == 0


def test_what_is_left_of_videos_without_rows_goes_with_the_next_flush(redis_client: Any) -> None:
    """Of those with something pending, and of those without; changes that were taken back leave nothing either."""
    (one, other, third), (user,) = make_videos(3), make_users(1)
    for video in (one, other, third):
        like(video, user)
    run_flush()
    assert redis_client.smembers(KEYS.lives) == {str(video) for video in (one, other, third)}
    like(other, user, liked=False)
    like(third, user, liked=False)
    like(third, user)
    sql._delete("videos_videolike", VideoLike.objects.values_list("id", flat=True))
    sql._delete("videos_videohour", VideoHour.objects.values_list("id", flat=True))
    sql._delete("videos_video", [one, other])
    redis_client.delete(KEYS.live(third))
    assert run_flush().dropped == 1
    for video in (one, other):
        assert "likes" not in redis_client.hgetall(KEYS.live(video))
    assert redis_client.zscore(recent_key(user), other) is None
    assert run_flush().failures == {}
    assert redis_client.exists(KEYS.sums, KEYS.claimed, KEYS.lives) == 0
    like(third, user)
    run_flush()
    like(third, user, liked=False)
    like(third, user)
    assert redis_client.hgetall(KEYS.sums) == {f"likes:{third}": "0"}
    run_flush()
    assert not redis_client.exists(KEYS.sums)


def test_only_keys_of_a_shard_as_a_whole_stay_for_ever(redis_client: Any) -> None:
    (video,), (user,) = make_videos(1), make_users(1)
    whole = {KEYS.batch, KEYS.closed, KEYS.lives, KEYS.pending, KEYS.sums, KEYS.claimed_sums}
    like(video, user)
    services.record_view(event=services.ViewEvent(video, "v", address="here"))
    services.record_views(events=[services.ViewEvent(video, "w", at_ms=counters.now_ms() - 3_600_000)])
    for _ in range(2):
        left = [key for key in redis_client.scan_iter("{*") if redis_client.ttl(key) < 0 and ":done:" not in key]
        assert set(left) <= whole
        assert redis_client.ttl(KEYS.seen(video, "v")) <= conf.VIEW_WINDOW_SECONDS
        assert 0 < redis_client.ttl(KEYS.address(video, "here")) <= conf.VIEW_WINDOW_SECONDS
        assert 0 < redis_client.ttl(KEYS.liked(video, user)) <= conf.LIKED_SECONDS
        assert redis_client.ttl(KEYS.dated(video, "w")) > conf.VIEW_MAX_AGE_SECONDS
        run_flush()
    redis_client.delete(KEYS.live(video))
    services.record_view(event=services.ViewEvent(video, "x"))
    like(video, user, liked=False)
    assert conf.LIVE_SECONDS - 5 <= redis_client.ttl(KEYS.live(video)) <= conf.LIVE_SECONDS


@pytest.mark.parametrize("flushed", [True, False])
def test_fields_that_are_given_back_are_pending_again(flushed: bool, redis_client: Any) -> None:
    """With the batch's number, because another flush may have read them; the newer wish of a user stands."""
    (video, other), users = make_videos(2), make_users(3)
    event = services.ViewEvent(video, "first", at_ms=counters.now_ms())
    services.record_views(events=[event])
    if flushed:
        like(video, users[0])
        run_flush()
    for user in users[1:]:
        like(video, user)
    like(other, users[0])
    services.record_views(events=[event._replace(viewer="second")])
    _, batch = claimed()
    services.record_views(events=[event._replace(viewer="third")])
    like(video, users[1], liked=False)
    names = [name.decode() for part in batch.scan() for name, _ in part or () if name.split(b":")[1] == b"%d" % video]
    assert batch.give_back(video, names)
    assert redis_client.hkeys(KEYS.claimed) == [f"l:{other}:{users[0]}"]
    assert int(redis_client.hget(KEYS.batch, "fields")) == 1
    pending = redis_client.hgetall(KEYS.pending)
    hour, number = f"v:{video}:{event.hour}", batch.number
    assert (pending[hour], pending[f"{hour}:{number}"]) == ("1", str(1 if flushed else 2))
    assert re.fullmatch(rf"1:\d+:s0b{number}", pending[f"l:{video}:{users[2]}"])
    assert re.fullmatch(r"0:\d+:s0", pending[f"l:{video}:{users[1]}"])
    assert redis_client.hmget(KEYS.sums, f"likes:{video}", f"views:{video}") == ["1", str(2 if flushed else 3)]
    assert redis_client.hmget(KEYS.claimed_sums, f"likes:{video}", f"likes:{other}") == [None, "1"]
    for _ in range(2):
        assert run_flush().failures == {}
    right = {other: Totals(1, 0), video: Totals(1 + flushed, 3)}
    assert {row.pk: row.totals for row in Video.objects.all()} == right
    assert {pk: counters.lookup([pk], None)[pk].totals for pk in right} == right
    check_batches()


def test_likes_of_a_user_who_is_gone_are_shown_until_the_next_flush_only() -> None:
    (video,) = make_videos(1)
    gone = make_users(1)[0] + 1
    for wishes in ([True], [False, True], [True, False, True]):
        for liked in wishes:
            services.set_like(video_id=video, user_id=gone, liked=liked)
        run_flush()
        assert counters.lookup([video], None)[video].totals == Totals()


def test_a_pending_like_is_shown_when_its_liked_key_is_gone(redis_client: Any) -> None:
    (video,), (user,) = make_videos(1), make_users(1)
    like(video, user)
    for act in (lambda: None, claimed):
        act()
        redis_client.delete(KEYS.liked(video, user))
        assert services.get_like(video_id=video, user_id=user)[1:3] == (LIKE, Totals(1))
        like(video, user)
        assert services.get_like(video_id=video, user_id=user)[1:3] == (LIKE, Totals(1))


def test_sums_of_the_batch_before_are_not_added_to_a_live_key(redis_client: Any) -> None:
    (video,), users = make_videos(1), make_users(2)
    like(video, users[0])
    run_flush()
    redis_client.hset(KEYS.pending, f"l:{video}:{users[0]}", f"1:{counters.now_ms()}:s1")  # it stays and moves no sum
    assert not redis_client.exists(KEYS.sums)
    claimed()
    redis_client.delete(KEYS.live(video))
    like(video, users[1])
    assert redis_client.hget(KEYS.live(video), "likes") == "2"


def test_a_video_may_have_more_fields_than_a_script_can_unpack(redis_client: Any, settings: Any) -> None:
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 1000
    (video,) = make_videos(1)
    fields = {f"v:{video}:{HOUR + number}": "1" for number in range(9000)}
    redis_client.hset(KEYS.pending, mapping=fields)
    assert run_flush().failures == {}
    assert Video.objects.get().view_count == redis_client.hlen(KEYS.done(1)) == 9000


def test_what_a_replay_needs_goes_when_its_time_is_over(redis_client: Any) -> None:
    (video,), users = make_videos(1), make_users(3)
    for user in users[:2]:
        like(video, user)
        run_flush()
    first, second = sorted(redis_client.hkeys(KEYS.closed), key=int)
    redis_client.hset(KEYS.closed, first, "1:0")
    assert run_flush().failures == {}
    assert redis_client.hkeys(KEYS.closed) == [second]
    assert (redis_client.exists(KEYS.done(int(first))), redis_client.hlen(KEYS.done(int(second)))) == (0, 1)


def test_what_the_database_lost_is_applied_again_and_memory_of_before_is_invalid(redis_client: Any) -> None:
    (video,), users = make_videos(1), make_users(2)
    for user in users:
        like(video, user)
        run_flush()
    meeting, stamp = redis_client.hmget(KEYS.batch, "meeting", "stamp")
    closed = redis_client.hgetall(KEYS.closed)
    redis_client.hset(KEYS.closed, mapping={number: f"1:{value.split(':')[1]}" for number, value in closed.items()})
    VideoLike.objects.filter(user=users[1]).delete()
    Video.objects.update(like_count=1, flushed_batch=min(map(int, closed)))
    FlushBatch.objects.filter(number=max(map(int, closed))).delete()
    report = run_flush()
    assert (report.failures, report.replayed, report.fields, report.rewound) == ({}, 1, 0, 0)
    assert Video.objects.get().totals == Totals(2, 0)
    assert redis_client.hget(KEYS.batch, "meeting") != meeting
    assert int(redis_client.hget(KEYS.batch, "forgotten") or 0) > int(stamp or 0)
    number = str(max(map(int, closed)))
    assert int(redis_client.hget(KEYS.closed, number).split(":")[0]) > 1000  # its time begins anew
    assert redis_client.hkeys(KEYS.closed) == [number]
    check_batches()


@pytest.mark.parametrize("by_sql", [False, True])
def test_nothing_that_redis_remembers_of_a_video_outlives_it(by_sql: bool, redis_client: Any) -> None:
    """Another video may get its id."""
    (video,), (user, owner) = make_videos(1), make_users(2)
    like(video, user)
    run_flush()
    event = services.ViewEvent(video, "v")
    services.record_view(event=event)
    like(video, owner)
    if by_sql:
        sql._delete("videos_videohour", VideoHour.objects.values_list("id", flat=True))
        sql._delete("videos_videolike", VideoLike.objects.values_list("id", flat=True))
        sql._delete("videos_video", [video])
    else:
        Video.objects.get().delete()
        assert redis_client.hmget(KEYS.sums, f"likes:{video}", f"views:{video}") == [None, None]
        assert redis_client.hkeys(KEYS.live(video)) == ["since", "born", "born_at"]
    assert run_flush().dropped == 2
    assert StaleLive.objects.count() == 0
    live = redis_client.hgetall(KEYS.live(video))
    assert live.keys() == {"since", "born", "born_at"}
    assert 0 < redis_client.ttl(KEYS.live(video)) <= forgotten_seconds()
    assert not redis_client.exists(KEYS.sums)
    Video.objects.create(id=video, title="new", url="https://example.com", owner_id=owner)
    assert services.get_like(video_id=video, user_id=user)[1:3] == (NOTHING, Totals())
    assert services.record_view(event=event).counted
    if by_sql:
        run_flush()  # live is not primed any more, so what it says of before has to be kept
    like(video, user)
    for _ in range(2):
        assert run_flush().failures == {}
    assert Video.objects.get().totals == Totals(1, 1)
    assert set(VideoLike.objects.values_list("user_id", flat=True)) == {user}
    assert counters.lookup([video], user)[video].totals == Totals(1, 1)


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_redis_that_came_back_older_takes_over_what_the_database_has(
    opened: bool, finished: bool, redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had a batch `opened` and a like pending; the database has both, and the last batch is `finished` there."""
    (video,), users = make_videos(1), make_users(4)
    like(video, users[0])
    run_flush()
    if opened:
        like(video, users[1])
        claimed()
    like(video, users[2])
    state = state_of(redis_client)
    with monkeypatch.context() as patch:
        if not finished:
            finish = ledger.finish_batch
            newest = 2 + opened

            def fail(batch: Any, *args: Any, **options: Any) -> bool:
                if batch.number == newest:
                    raise OperationalError(2006, "gone away")
                return finish(batch, *args, **options)

            patch.setattr(ledger, "finish_batch", fail)
        assert run_flush().failed is not finished
    if finished:
        like(video, users[3])
        run_flush()
    right = {users[0], *users[1 : 1 + opened], users[2], *users[3 : 3 + finished]}
    redis_client.flushdb()
    for key, value in state.items():
        redis_client.restore(key, 0, value)
    monkeypatch.setattr(wire.Lease, "run", lambda _: "another")
    monkeypatch.setattr(wire, "_met_run", "")
    report = run_flush()
    assert (report.failures, report.rewound) == ({}, int(not finished))
    assert set(VideoLike.objects.values_list("user_id", flat=True)) == right
    assert Video.objects.get().totals == Totals(len(right), 0)
    batch = redis_client.hgetall(KEYS.batch)
    assert ("open" in batch, batch["met"], batch["last"]) == (False, "another", str(2 + opened + finished))
    assert not redis_client.exists(KEYS.pending, KEYS.claimed, KEYS.sums)
    kept = {1: [users[0]], 2: [users[1]], 3: [users[2]]} if opened else {1: [users[0]], 2: [users[2]]}
    closed = redis_client.hgetall(KEYS.closed)
    assert {int(number): int(value.split(":")[1]) for number, value in closed.items()} == {n: n - 1 for n in kept}
    for number, held in kept.items():
        assert redis_client.hkeys(KEYS.done(number)) == [f"l:{video}:{user}" for user in held]
    check_batches()
    like(video, users[0], liked=False)
    like(video, users[0])
    assert run_flush().failures == {}
    shown = services.read_counts(video_ids=[video], user_id=None).by_video[video].totals
    assert Video.objects.get().totals == shown == Totals(len(right), 0)

    VideoLike.objects.exclude(user=users[0]).delete()
    FlushBatch.objects.filter(number__gt=1).delete()
    Video.objects.update(like_count=1, flushed_batch=1)
    for _ in range(2):
        assert run_flush().failures == {}
    likers = set(VideoLike.objects.values_list("user_id", flat=True))
    assert {users[0], *users[1 : 1 + opened], users[2]} <= likers <= right
    assert Video.objects.get().like_count == len(likers)
