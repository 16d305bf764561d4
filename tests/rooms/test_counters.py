"""The Redis room: round trips, expiry, outages, and what scripts refuse."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from django_redis.pool import ConnectionFactory

from tests.support.servers import RedisServer
from videos import counters
from videos.counters import Base, Confirmation, CountersUnavailable, Event, Needs

BASE = Base(5, 7, 1, 100)


def prime(video: int, user: int = 0, base: Base = BASE) -> None:
    """Make a video live, and let Redis know that the user does not like it."""
    commands = [counters._prime_command(video, base)]
    if user:
        commands.append(("SET", counters._shard(counters.shard_of(video)).liked(video, user), "0:0", "EX", 60))
    counters._send(commands)


def test_script_names_what_it_needs_and_goes_on_with_it() -> None:
    prime(3)  # the server may not know this script yet: then a like behind it in the same trip asks once more
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1) == Needs(state=True, base=True)
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1, base=BASE, state=False) == (True, 6)


def test_what_redis_knows_is_newer_than_what_was_read() -> None:
    prime(1, 2)
    counters.like(video_id=1, user_id=2, liked=True, at_ms=1)
    prime(1, 2)
    live = counters.read([1], 2)[1]
    assert (live.likes, live.liked) == (6, True)


def test_state_that_was_read_counts_only_where_redis_knows_none() -> None:
    prime(1)
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1, state=True) == (False, 5)
    assert counters.like(video_id=1, user_id=2, liked=False, at_ms=2) == (True, 4)
    assert counters.like(video_id=1, user_id=2, liked=False, at_ms=3, state=True) == (False, 4)
    assert counters.like(video_id=1, user_id=3, liked=True, at_ms=4, state=False) == (True, 5)
    assert counters.like(video_id=1, user_id=3, liked=True, at_ms=5, state=False) == (False, 5)


def test_only_the_pending_claimed_and_batch_keys_stay_for_ever(redis_client: redis.Redis) -> None:
    prime(1, 2)
    counters.like(video_id=1, user_id=2, liked=True, at_ms=1)
    counters.view([Event(1, "v", 480_000, address="a")])
    counters.claim(shard=1, floor=0, newest=0, at_ms=1)
    counters.view([Event(1, "w", 480_000, address="a")])
    staying = {key for key in redis_client.scan_iter() if redis_client.ttl(key) == -1}
    assert staying == {"{videos:1}:pending", "{videos:1}:claimed", "{videos:1}:batch"}


def test_live_count_may_go_an_hour_after_nothing_is_pending(redis_client: redis.Redis) -> None:
    prime(1, 2)
    counters.like(video_id=1, user_id=2, liked=True, at_ms=1)
    assert int(redis_client.ttl("{videos:1}:live:1")) > 3600
    claim = counters.claim(shard=1, floor=0, newest=0, at_ms=1)
    done = Confirmation(1, (6, 7), applied=[b"l:1:2"])
    assert counters.confirm(shard=1, number=claim.number, confirmations=[done])
    assert 0 < int(redis_client.ttl("{videos:1}:live:1")) <= 3600


def test_batch_numbers_grow_and_one_batch_is_open_at_a_time() -> None:
    prime(1, 2)
    counters.like(video_id=1, user_id=2, liked=True, at_ms=1)
    first = counters.claim(shard=1, floor=4, newest=4, at_ms=9)
    counters.like(video_id=1, user_id=2, liked=False, at_ms=2)
    assert counters.claim(shard=1, floor=4, newest=4, at_ms=10) == first
    assert (first.number, first.fields, first.rewound, first.claimed_ms) == (5, 1, True, 9)
    assert counters.close(shard=1, number=5, end=True) is None
    counters.confirm(shard=1, number=5, confirmations=[Confirmation(1, (6, 7), applied=[b"l:1:2"])])
    assert counters.close(shard=1, number=5, end=False) == (1, 0, 0, 0)
    assert counters.claim(shard=1, floor=5, newest=5, at_ms=11).number == 5
    assert counters.close(shard=1, number=5, end=True) == (1, 0, 0, 0)
    assert counters.claim(shard=1, floor=5, newest=5, at_ms=12).number == 6


def test_confirm_accounts_once_for_each_field_that_is_there(redis_client: redis.Redis) -> None:
    """Fields named twice, or not in the batch: of the video of these, live stays."""
    prime(1, 2)
    prime(17, 2)
    for video in (1, 17):
        counters.like(video_id=video, user_id=2, liked=True, at_ms=1)
        counters.view([Event(video, "v", 480_000)])
    redis_client.hset("{videos:1}:pending", "nonsense", "7")
    number = counters.claim(shard=1, floor=0, newest=0, at_ms=1).number
    counters.view([Event(1, "w", 480_000)])
    done = [
        Confirmation(1, (60, 70), applied=["l:1:2"], repeated=[b"v:1:480000", b"v:1:480000"], dropped=["l:1:2"]),
        Confirmation(17, (1, 1), applied=["l:17:9"]),
        Confirmation(None, rejected=[b"nonsense", b"nonsense", b"gone"]),
    ]
    assert counters.confirm(shard=1, number=number, confirmations=done)
    live = counters.read([1, 17], None)
    assert (live[1].likes, live[1].views, live[17].likes, live[17].views) == (60, 71, 6, 8)
    assert redis_client.hgetall("{videos:1}:rejected") == {f"{number}:nonsense": "7"}
    rest = Confirmation(17, None, dropped=["l:17:2", "v:17:480000"])
    assert counters.confirm(shard=1, number=number, confirmations=[rest])
    assert counters.close(shard=1, number=number, end=False) == (1, 1, 2, 1)
    assert counters.read([17], None)[17].likes is None


def test_reads_and_confirms_of_another_batch_are_refused() -> None:
    prime(1, 2)
    counters.like(video_id=1, user_id=2, liked=True, at_ms=1)
    counters.claim(shard=1, floor=0, newest=0, at_ms=1)
    assert list(counters.claimed(shard=1, number=2)) == [None]
    assert counters.confirm(shard=1, number=2, confirmations=[Confirmation(1, (9, 9), applied=[b"l:1:2"])]) is False
    assert counters.depths()[1].claimed == 1


def test_view_over_the_limit_of_its_address_leaves_no_seen_behind(settings: Any) -> None:
    settings.VIDEOS_VIEW_ADDRESS_LIMIT = 1
    prime(1)
    events = [Event(1, viewer, 480_000, address="a") for viewer in ("v", "w")]
    assert [reason for reason, _ in counters.view(events)] == ["new", "address"]
    settings.VIDEOS_VIEW_ADDRESS_LIMIT = 2
    assert counters.view([events[1]]) == [("address", 8)]  # the window counts attempts beyond the limit too
    assert counters.view([Event(1, "w", 480_000)]) == [("new", 9)]


def test_view_beside_a_malformed_sum_counts(redis_client: redis.Redis) -> None:
    prime(1)
    redis_client.hset("{videos:1}:pending", "v:1:480000", "junk")
    assert counters.view([Event(1, "v", 480_000)]) == [("new", 8)]
    assert redis_client.hgetall("{videos:1}:pending") == {"v:1:480000": "1", "v:1:480000?": "junk"}


def test_ids_beyond_what_lua_counts_exactly_stay_exact(redis_client: redis.Redis) -> None:
    video, user = 2**63 - 1, 2**53 + 1
    prime(video, user, Base(2**52, 0, 1, 0))
    assert counters.like(video_id=video, user_id=user, liked=True, at_ms=1) == (True, 2**52 + 1)
    assert list(redis_client.hgetall(f"{{videos:{video % 16}}}:pending")) == [f"l:{video}:{user}"]


def test_scripts_that_the_server_forgot_are_loaded_again(redis_client: redis.Redis) -> None:
    prime(1)
    redis_client.script_flush()
    assert counters.view([Event(1, "v", 480_000)]) == [("new", 8)]


def test_server_that_refuses_is_left_alone_for_a_while(settings: Any, use_redis: Any, tmp_path: Path) -> None:
    use_redis(RedisServer(tmp_path / "never-started"))
    with pytest.raises(CountersUnavailable) as first:
        counters.view([Event(1, "v", 480_000)])
    assert first.value.uncertain is False
    begin = time.monotonic()
    for _ in range(100):
        with pytest.raises(CountersUnavailable):
            counters.view([Event(1, "v", 480_000)])
    assert time.monotonic() - begin < 0.2


def test_answer_that_does_not_come_in_time_is_uncertain(redis_silent: None) -> None:
    begin = time.monotonic()
    with pytest.raises(CountersUnavailable) as raised:
        counters.view([Event(1, "v", 480_000)])
    assert raised.value.uncertain is True
    assert time.monotonic() - begin < 2


def test_restarted_server_costs_an_idle_connection_nothing(
    private_redis: RedisServer, use_redis: Callable[[RedisServer], None]
) -> None:
    use_redis(private_redis)
    prime(1)
    private_redis.kill()
    private_redis.restart()
    assert counters.view([Event(1, "v", 480_000)]) == [("new", 8)]


def test_full_server_is_unavailable_and_has_done_nothing(
    private_redis: RedisServer, use_redis: Callable[[RedisServer], None]
) -> None:
    use_redis(private_redis)
    prime(1)
    private_redis.client().config_set("maxmemory", "1")
    with pytest.raises(CountersUnavailable) as raised:
        counters.view([Event(1, "v", 480_000)])
    assert raised.value.uncertain is False
    private_redis.client().config_set("maxmemory", "0")
    assert counters.view([Event(1, "v", 480_000)]) == [("new", 8)]


def test_threads_that_come_first_at_once_share_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConnectionFactory, "_pools", {})
    make = ConnectionFactory.get_connection_pool

    def make_slowly(self: ConnectionFactory, params: dict[str, Any]) -> Any:
        time.sleep(0.05)
        return make(self, params)

    monkeypatch.setattr(ConnectionFactory, "get_connection_pool", make_slowly)
    pools: list[Any] = []

    def first() -> None:
        counters.depths()
        pools.append(counters._wire.lease.pool if counters._wire.lease else None)

    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pools) == 4
    assert len(set(map(id, pools))) == 1
    pools[0].disconnect()


def test_threads_that_end_give_their_connections_back() -> None:
    before = counters._connect()
    pool = counters._wire.lease.pool  # type: ignore[union-attr]
    known = len(pool._in_use_connections) + len(pool._available_connections)
    for _ in range(30):
        thread = threading.Thread(target=counters.depths)
        thread.start()
        thread.join()
    assert before is counters._connect()
    assert len(pool._in_use_connections) + len(pool._available_connections) <= known + 2


def test_claim_is_not_used_before_it_is_durable_on_replicas(
    private_redis: RedisServer,
    use_redis: Callable[[RedisServer], None],
    settings: Any,
    tmp_path: Path,
    run_server: Callable[[Any], None],
) -> None:
    settings.VIDEOS_FLUSH_DURABLE_SECONDS = 0.3
    use_redis(private_redis)
    replica = type(private_redis)(tmp_path / "replica", "--replicaof", f"127.0.0.1 {private_redis.port}")
    run_server(replica)
    limit = time.monotonic() + 20
    while private_redis.client().info("replication")["connected_slaves"] != 1 and time.monotonic() < limit:
        time.sleep(0.05)
    counters.beat(1)
    limit = time.monotonic() + 20
    while True:
        try:
            counters.make_durable()
            break
        except CountersUnavailable:
            assert time.monotonic() < limit
    assert replica.process is not None
    replica.process.send(signal.SIGSTOP)
    counters.beat(2)
    with pytest.raises(CountersUnavailable, match="not durable"):
        counters.make_durable()
    replica.process.send(signal.SIGCONT)


def test_server_facts_are_told(private_redis: RedisServer, use_redis: Callable[[RedisServer], None]) -> None:
    use_redis(private_redis)
    facts = counters.server_facts()
    assert (facts["maxmemory_policy"], facts["aof_enabled"], facts["appendfsync"]) == ("noeviction", True, "always")
    assert (facts["role"], facts["connected_replicas"]) == ("master", 0)


def test_first_likes_of_a_video_without_likes_need_nothing_more(redis_client: redis.Redis) -> None:
    prime(1, base=Base(0, 7, 1, 100))
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1) == (True, 1)
    assert counters.like(video_id=1, user_id=3, liked=False, at_ms=1) == Needs(state=True, base=False)
    until = int(str(redis_client.hget("{videos:1}:live:1", "unliked_until")))
    assert 0 < int(redis_client.ttl("{videos:1}:liked:1:2")) - (until - time.time()) < 120
    redis_client.hset("{videos:1}:live:1", "unliked_until", int(time.time()) - 1)
    assert counters.like(video_id=1, user_id=4, liked=True, at_ms=1) == Needs(state=True, base=False)


def test_likes_of_a_video_that_has_some_ask_who_it_was() -> None:
    prime(1, base=Base(1, 7, 1, 100))
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1) == Needs(state=True, base=False)


def test_likes_after_a_loss_of_batches_ask_who_it_was() -> None:
    prime(1, base=Base(0, 7, 1, 100))
    assert counters.claim(shard=1, floor=5, newest=5, at_ms=1).number == 0  # nothing is pending, yet it notices
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1) == Needs(state=True, base=False)
    counters.view([Event(1, "v", 480_000)])
    assert counters.claim(shard=1, floor=5, newest=5, at_ms=1).number == 6
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1) == Needs(state=True, base=False)
    prime(17, base=Base(0, 7, 1, 100))
    assert counters.like(video_id=17, user_id=2, liked=True, at_ms=1) == (True, 1)


def test_likes_after_rows_changed_outside_a_batch_ask_who_it_was() -> None:
    base = Base(0, 7, 1, 100)
    prime(1, base=base)
    assert counters.resync(video_id=1, last=0, base=base, wishes=[])
    assert counters.like(video_id=1, user_id=2, liked=True, at_ms=1) == Needs(state=True, base=False)


def test_live_count_of_which_nothing_is_pending_may_go_an_hour_after_it_was_read(redis_client: redis.Redis) -> None:
    prime(1)
    assert 0 < int(redis_client.ttl("{videos:1}:live:1")) <= 3600
