"""The Redis room: round trips, expiry, outages, and what scripts refuse.

Over 250 lines: all scripts are called through the same short helpers.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from django_redis.pool import ConnectionFactory
from redis.exceptions import ResponseError

from servers import RedisServer, free_port, wait_until
from tests.conftest import with_counters
from tests.soak.memory import measure
from tests.support.faults import failing
from tests.support.proxy import Proxy
from videos import counters
from videos.changes import COUNTS, HOUR_MS, Newer, StaleVideo, Totals, VideoFacts
from videos.counters import Batch, Claim, Confirmation, CountersUnavailable, Missing, ViewEvent, connection, requests
from videos.counters.connection import FRESH_SECONDS, REFUSALS, code_of, flush_call, send
from videos.counters.keys import keys_of
from videos.fields import State

FENCE = 1
FACTS = VideoFacts(Totals(5, 7), 1, 100)
UNMARKED = VideoFacts(Totals(0, 7), 1, 100)


@pytest.fixture(autouse=True)
def meet_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each run of Redis a fence. This room knows no database."""

    def meet(run: str) -> None:
        known = counters.shard_runs()
        counters.take_fences(run, known, {shard: (FENCE, Newer()) for shard in known})

    monkeypatch.setattr(connection, "_meet", meet)


def seen(video_id: int, viewer: str, address: str | None = None) -> ViewEvent:
    """A view in the hour 480,000."""
    return ViewEvent(video_id, viewer, at_ms=480_000 * HOUR_MS, address=address)


def prime(video_id: int, user_id: int = 0, facts: VideoFacts = FACTS) -> None:
    """Make a video live, as if a batch had been confirmed since, and let Redis know that the user does not like it."""
    keys = keys_of(counters.shard_of(video_id))
    send([requests._prime_command(video_id, facts._replace(version=facts.version or "0:1"))])
    flush_call("HDEL", keys.live(video_id), "primed")
    if user_id:
        flush_call("SET", keys.liked(video_id, user_id), "0:0:0", "EX", 60)


def like(video_id: int, user_id: int, value: int, at_ms: int = 1, **known: Any) -> tuple[bool, int] | Missing:
    """Whether the wish changed something, and the likes now."""
    done = counters.set_mark(video_id=video_id, user_id=user_id, value=value, at_ms=at_ms, version="0:1", **known)
    return done if isinstance(done, Missing) else (done.changed, done.totals.likes)


def claim(shard: int = 1, floor: int = 0, at_ms: int = 1) -> Claim:
    """Claim what is pending; the numbers are above `floor`, the newest batch of another shard."""
    return Batch.claim(shard=shard, fence=FENCE, floor=0, newest=floor, at_ms=at_ms)


def claimed(shard: int = 1) -> Batch:
    """The batch that was claimed."""
    batch = claim(shard).batch
    assert batch is not None
    return batch


def test_script_names_what_it_needs_and_goes_on_with_it() -> None:
    prime(3)  # the server may not know this script yet: then a like behind it in the same trip asks once more
    assert like(1, 2, 1, 1) == Missing(state=True, facts=True, version="0:1")
    assert like(1, 2, 1, 1, facts=FACTS, state=0) == (True, 6)


def test_what_redis_knows_is_newer_than_what_was_read() -> None:
    prime(1, 2)
    like(1, 2, 1, 1)
    prime(1, 2)
    live = counters.lookup([1], 2)[1]
    assert (live.totals, live.state) == (Totals(6, 7), (1, 1))


def test_state_that_was_read_counts_only_where_redis_knows_none() -> None:
    prime(1)
    assert like(1, 2, 1, 1) == Missing(state=True, facts=False, version="0:1")
    assert like(1, 2, 1, 1, state=1) == (False, 5)
    assert like(1, 2, 0, 2) == (True, 4)
    assert like(1, 2, 0, 3, state=1) == (False, 4)
    assert like(1, 3, 1, 4, state=0) == (True, 5)
    assert like(1, 3, 1, 5, state=0) == (False, 5)


def test_only_keys_of_a_shard_as_a_whole_stay_for_ever(redis_client: redis.Redis) -> None:
    prime(1, 2)
    like(1, 2, 1, 1)
    counters.view([seen(1, "v", address="a")])
    claim()
    counters.view([seen(1, "w", address="a")])
    staying = {key for key in redis_client.scan_iter() if redis_client.ttl(key) == -1}
    names = ("pending", "sums", "claimed", "claimed_sums", "lives")
    batches = {f"{{videos:{shard}}}:batch" for shard in range(16)}
    assert staying == batches | {f"{{videos:1}}:{name}" for name in names}


def test_live_count_may_go_an_hour_after_nothing_is_pending(redis_client: redis.Redis) -> None:
    prime(1, 2)
    assert 0 < int(redis_client.ttl("{videos:1}:live:1")) <= 3600
    like(1, 2, 1, 1)
    assert int(redis_client.ttl("{videos:1}:live:1")) > 3600
    assert claimed().confirm([Confirmation(1, Totals(6, 7), applied=[b"l:1:2"])])
    assert 0 < int(redis_client.ttl("{videos:1}:live:1")) <= 3600


def test_batch_numbers_grow_and_one_batch_is_open_at_a_time() -> None:
    prime(1, 2)
    like(1, 2, 1, 1)
    first = claim(floor=4, at_ms=9)
    like(1, 2, 0, 2)
    assert claim(floor=4, at_ms=10) == first
    batch = first.batch
    assert batch == (1, 5, 1, False, 9, 0, FENCE)
    assert batch.sums() is None
    batch.confirm([Confirmation(1, Totals(6, 7), applied=[b"l:1:2"])])
    assert batch.sums() == (1, 0, 0, 0)
    assert claim(floor=5, at_ms=11).batch == first.batch
    batch.close()
    assert batch.sums() is None
    assert claim(floor=5, at_ms=12).last == 6


def test_confirm_accounts_once_for_each_field_that_is_there(redis_client: redis.Redis) -> None:
    """Fields named twice, or not in the batch: of the video of these, live stays."""
    prime(1, 2)
    prime(17, 2)
    for video in (1, 17):
        like(video, 2, 1, 1)
        counters.view([seen(video, "v")])
    redis_client.hset("{videos:1}:pending", "nonsense", "7")
    batch = claimed()
    counters.view([seen(1, "w")])
    done = [
        Confirmation(1, Totals(60, 70), applied=["l:1:2"], repeated=[b"v:1:480000", b"v:1:480000"], dropped=["l:1:2"]),
        Confirmation(17, Totals(1, 1), applied=["l:17:9"]),
        Confirmation(None, rejected=[b"nonsense", b"nonsense", b"gone"]),
    ]
    assert batch.confirm(done)
    live = counters.lookup([1, 17], None)
    assert (live[1].totals, live[17].totals) == (Totals(60, 71), Totals(6, 8))
    assert redis_client.hgetall("{videos:1}:rejected") == {f"{batch.number}:nonsense": "7"}
    rest = Confirmation(17, None, dropped=["l:17:2", "v:17:480000"])
    assert batch.confirm([rest])
    assert batch.sums() == (1, 1, 2, 1)
    assert counters.lookup([17], None)[17].totals is None
    kept = redis_client.hgetall(f"{{videos:1}}:done:{batch.number}")  # for a replay
    assert set(kept) == {"l:1:2", "v:1:480000", "l:17:2", "v:17:480000"}


def test_reads_and_confirms_of_another_batch_are_refused() -> None:
    prime(1, 2)
    like(1, 2, 1, 1)
    other = claimed()._replace(number=2)
    assert list(other.scan()) == [None]
    assert other.confirm([Confirmation(1, Totals(9, 9), applied=[b"l:1:2"])]) is False
    assert counters.depths()[1].claimed == 1


def test_view_over_the_limit_of_its_address_leaves_no_seen_behind(settings: Any) -> None:
    settings.VIDEOS_VIEW_ADDRESS_LIMIT = 1
    prime(1)
    events = [seen(1, viewer, address="a") for viewer in ("v", "w")]
    assert [reason for reason, _ in counters.view(events)] == ["new", "address"]
    settings.VIDEOS_VIEW_ADDRESS_LIMIT = 2
    assert counters.view([events[1]]) == [("address", 8)]  # the window counts attempts beyond the limit too
    assert counters.view([seen(1, "w")]) == [("new", 9)]


def test_view_beside_a_malformed_sum_counts(redis_client: redis.Redis) -> None:
    prime(1)
    redis_client.hset("{videos:1}:pending", "v:1:480000", "junk")
    assert counters.view([seen(1, "v")]) == [("new", 8)]
    assert redis_client.hgetall("{videos:1}:pending") == {"v:1:480000": "1", "v:1:480000?": "junk"}


def test_ids_beyond_what_lua_counts_exactly_stay_exact(redis_client: redis.Redis) -> None:
    video, user = 2**63 - 1, 2**53 + 1
    prime(video, user, VideoFacts(Totals(2**52, 0), 1, 0))
    assert like(video, user, 1, 1) == (True, 2**52 + 1)
    assert list(redis_client.hgetall(f"{{videos:{video % 16}}}:pending")) == [f"l:{video}:{user}"]


def test_scripts_that_the_server_forgot_are_loaded_again(redis_client: redis.Redis) -> None:
    prime(1)
    redis_client.script_flush()
    assert counters.view([seen(1, "v")]) == [("new", 8)]


@pytest.mark.usefixtures("redis_away")
def test_server_that_refuses_is_left_alone_for_a_while() -> None:
    with pytest.raises(CountersUnavailable) as first:
        counters.view([seen(1, "v")])
    assert first.value.uncertain is False
    begin = time.monotonic()
    for _ in range(100):
        with pytest.raises(CountersUnavailable):
            counters.view([seen(1, "v")])
    assert time.monotonic() - begin < 0.2


def test_answer_that_does_not_come_in_time_is_uncertain(redis_silent: None) -> None:
    begin = time.monotonic()
    with pytest.raises(CountersUnavailable) as raised:
        counters.view([seen(1, "v")])
    assert raised.value.uncertain is True
    assert time.monotonic() - begin < 2


def test_restarted_server_costs_an_idle_connection_nothing(own_redis: RedisServer) -> None:
    prime(1)
    own_redis.kill()
    own_redis.restart()
    time.sleep(FRESH_SECONDS)
    assert counters.view([seen(1, "v")]) == [("new", 8)]


@pytest.mark.parametrize(("option", "error"), [("maxmemory", "OOM"), ("min-replicas-to-write", "NOREPLICAS")])
def test_server_that_refuses_writes_has_done_nothing(
    own_redis: RedisServer, option: str, error: str, settings: Any
) -> None:
    settings.VIDEOS_ANONYMOUS_MEMORY_SHARE = 1
    prime(1)
    own_redis.client().config_set(option, "1")
    with pytest.raises(CountersUnavailable, match=error) as raised:
        counters.view([seen(1, "v")])
    assert raised.value.uncertain is False
    assert counters.watched_since(1234) == 1234
    own_redis.client().config_set(option, "0")
    assert counters.watched_since(1235) == counters.watched_since(1236) == 1235
    assert counters.view([seen(1, "v")]) == [("new", 8)]


def test_threads_that_come_first_at_once_share_a_pool(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Any] = []
    make = ConnectionFactory.get_connection_pool

    def make_slowly(self: ConnectionFactory, params: dict[str, Any]) -> Any:
        time.sleep(0.05)
        pools.append(make(self, params))
        return pools[-1]

    monkeypatch.setattr(ConnectionFactory, "get_connection_pool", make_slowly)
    run_in_threads(4)
    assert len(pools) == 1


def test_threads_that_end_close_their_connections(own_redis: RedisServer) -> None:
    for _ in range(10):
        run_in_threads(3)
    assert int(own_redis.client().info("clients")["connected_clients"]) <= 3


def run_in_threads(number: int) -> None:
    """Use Redis in threads that end."""
    threads = [threading.Thread(target=counters.depths) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_claim_is_not_used_before_it_is_durable_on_replicas(
    own_redis: RedisServer, settings: Any, tmp_path: Path, run_server: Callable[[Any], None]
) -> None:
    settings.VIDEOS_FLUSH_DURABLE_SECONDS = 0.3
    own_redis.client().config_set("repl-diskless-sync-delay", 0)  # else it waits 5 s for more replicas
    replica = type(own_redis)(tmp_path / "replica", "--replicaof", f"127.0.0.1 {own_redis.port}")
    run_server(replica)
    wait_until(lambda: own_redis.client().info("replication")["connected_slaves"] == 1, what="the replica")
    batch = Batch(1, 1, 1, False, 1)
    counters.note_finished_run(1)
    limit = time.monotonic() + 20
    while True:
        try:
            batch.make_durable()
            break
        except CountersUnavailable:
            assert time.monotonic() < limit
    assert replica.process is not None
    replica.process.send(signal.SIGSTOP)
    counters.note_finished_run(2)
    with pytest.raises(CountersUnavailable, match="not durable"):
        batch.make_durable()
    replica.process.send(signal.SIGCONT)


def test_server_facts_are_told(own_redis: RedisServer) -> None:
    facts = counters.server_facts()
    assert (facts["maxmemory_policy"], facts["aof_enabled"], facts["appendfsync"]) == ("noeviction", True, "always")
    assert (facts["role"], facts["connected_replicas"]) == ("master", 0)


def test_first_likes_of_a_video_without_likes_need_nothing_more(redis_client: redis.Redis) -> None:
    prime(1, facts=UNMARKED)
    assert like(1, 2, 1, 1) == (True, 1)
    assert like(1, 3, 0, 1) == Missing(state=True, facts=False, version="0:1")
    until = int(str(redis_client.hget("{videos:1}:live:1", "unmarked_until")))
    assert 0 < int(redis_client.ttl("{videos:1}:liked:1:2")) - (until - time.time()) < 120
    redis_client.hset("{videos:1}:live:1", "unmarked_until", int(time.time()) - 1)
    assert like(1, 4, 1, 1) == Missing(state=True, facts=False, version="0:1")


def test_nothing_that_was_remembered_before_a_loss_of_batches_counts(redis_client: redis.Redis) -> None:
    prime(1, 2, facts=UNMARKED)
    counters.view([seen(1, "v")])
    claimed()
    known = counters.shard_runs()
    redis_client.hset("{videos:1}:batch", "met", "another run")
    counters.take_fences(connection._met_run, known, {1: (2, Newer(4, True, 5))})
    assert like(1, 2, 1, 1) == Missing(state=True, facts=True, version="5:2")
    assert counters.lookup([1], 2) == {1: counters.Live(None, None)}
    found = counters.view([seen(1, "v")], {1: UNMARKED._replace(version="5:2")})
    assert found == [("seen", 7)]  # its view survived with it
    assert redis_client.hget("{videos:1}:batch", "last") == "5"
    assert redis_client.hgetall("{videos:1}:done:1") == {"v:1:480000": "1"}


def test_likes_after_rows_changed_outside_a_batch_ask_who_it_was() -> None:
    prime(1, facts=UNMARKED)
    assert counters.resync(shard=1, fence=FENCE, last=0, stale={1: StaleVideo(UNMARKED, [])}) == {1}
    assert like(1, 2, 1, 1) == Missing(state=True, facts=False, version="0:1")


def test_after_a_failover_the_new_primary_is_used_from_the_second_call_on(
    own_redis: RedisServer, redis_proxy: Proxy, settings: Any, tmp_path: Path, run_server: Callable[[Any], None]
) -> None:
    """Connections to the old primary stay open; the meeting with the new one must not go over them."""
    settings.VIDEOS_REDIS_PAUSE_SECONDS = 0
    own_redis.client().config_set("repl-diskless-sync-delay", 0)
    replica = type(own_redis)(tmp_path / "replica", "--replicaof", f"127.0.0.1 {own_redis.port}")
    run_server(replica)
    prime(1)
    counters.note_finished_run(1)
    wait_until(lambda: bool(replica.client().exists("{videos:1}:live:1")), what="the replica")
    replica.client().replicaof("NO", "ONE")
    own_redis.client().replicaof("127.0.0.1", str(replica.port))
    redis_proxy.target = replica.port
    with pytest.raises(CountersUnavailable, match="READONLY"):
        counters.view([seen(1, "v")])
    counters.view([seen(1, "v")])
    counters.note_finished_run(2)
    assert counters.last_finished_run() == 2


def test_a_server_that_was_demoted_is_left_at_once(own_redis: RedisServer) -> None:
    """A connection stays open when its server becomes a replica: the next call must look up the address again."""
    prime(1)
    before = flush_call("CLIENT", "ID")
    client = own_redis.client()
    client.replicaof("127.0.0.1", str(free_port()))
    with pytest.raises(CountersUnavailable, match="READONLY") as raised:
        counters.view([seen(1, "v")])
    assert raised.value.uncertain is False
    with pytest.raises(CountersUnavailable, match="READONLY"):
        counters.note_finished_run(1)
    client.replicaof("NO", "ONE")
    assert counters.view([seen(1, "v")]) == [("new", 8)]
    assert flush_call("CLIENT", "ID") != before


def test_a_server_that_wants_a_password_has_done_nothing(own_redis: RedisServer) -> None:
    prime(1)
    client = own_redis.client()
    client.config_set("requirepass", "secret")
    send([("RESET",)])  # ends the login
    with pytest.raises(CountersUnavailable) as raised:
        counters.forget(1)
    assert raised.value.uncertain is False
    client.config_set("requirepass", "")


def test_a_reply_that_was_left_unread_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    prime(1)
    with monkeypatch.context() as patch:
        patch.setattr(redis.connection.Connection, "read_response", failing(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            counters.last_finished_run()
    assert counters.view([seen(1, "v")]) == [("new", 8)]


@pytest.mark.parametrize("error", [ResponseError("BUSY a script"), ResponseError("a script", status_code="BUSY")])
def test_a_refusal_is_told_by_its_code_wherever_the_client_keeps_it(error: ResponseError) -> None:
    assert code_of(error) in REFUSALS


@pytest.mark.parametrize(
    "options", [{"protocol": 3}, {"decode_responses": True}, {"protocol": 3, "encoding": "latin-1"}]
)
def test_replies_have_one_shape_whatever_the_settings_ask_for(options: dict[str, Any], settings: Any) -> None:
    own = settings.CACHES["counters"]["OPTIONS"]
    with_counters(settings, OPTIONS=own | {"CONNECTION_POOL_KWARGS": own["CONNECTION_POOL_KWARGS"] | options})
    prime(1, 2)
    like(1, 2, 1)
    assert counters.lookup([1], 2) == {1: counters.Live(Totals(6, 7), State(1, 1))}
    assert list(counters.recent(2)) == [1]
    assert list(claimed().scan()) == [[(b"l:1:2", b"1:1")]]


def test_a_count_that_a_live_key_does_not_have_yet_is_read_from_the_row(redis_client: redis.Redis) -> None:
    prime(1, 2)
    assert like(1, 2, 1) == (True, 6)
    redis_client.hdel("{videos:1}:live:1", COUNTS[-1].name)  # as if made before that was counted
    assert like(1, 2, 0, 2) == Missing(state=False, facts=True, version="0:1")
    assert like(1, 2, 0, 2, facts=FACTS) == (True, 5)
    assert counters.lookup([1], None)[1].totals == Totals(5, 7)
    redis_client.hdel("{videos:1}:live:1", COUNTS[-1].name)
    assert counters.view([ViewEvent(1, "a")])[0][0] == ""


def test_a_pending_like_takes_the_memory_that_operations_states(redis_client: redis.Redis) -> None:
    """docs/operations.md computes a day without a flush from it: 117 bytes, and 120 for `liked`."""
    video, likes = 160_000, 2_000
    prime(video)
    for user in range(1_000_000, 1_000_000 + likes):
        counters.set_mark(video_id=video, user_id=user, value=1, at_ms=counters.now_ms(), state=0, version="0:1")
    raw = redis.Redis.from_url(os.environ["REDIS_URL"])
    kinds = measure(raw)
    raw.close()
    assert kinds["pending"]["fields"] == likes
    assert 40 < kinds["pending"]["bytes"] / likes <= 117
    assert 40 < kinds["liked"]["bytes"] / kinds["liked"]["keys"] <= 120
