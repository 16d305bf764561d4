"""Random orders of everybody's steps find no fault; with a rule of the protocol broken they do."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.protocol.simulator.rules import (
    act_at_each_meeting,
    act_on_no_newer_batch,
    add_what_is_claimed_to_rows_that_have_it,
    confirm_without_the_number,
    finish_whatever_was_taken_in,
    forget_the_notes,
    forget_what_gathers_during_a_batch,
    forget_what_is_claimed_where_live_expired,
    forget_what_is_pending_where_live_expired,
    give_back_without_the_number,
    ignore_the_watermark,
    judge_a_like_without_the_claimed_field,
    keep_nothing_for_a_replay,
    keep_old_pending_sums,
    let_a_mark_that_went_back_go,
    let_old_wishes_undo_new_ones,
    mint_before_the_claim,
    open_a_batch_before_the_one_before_it,
    read_without_the_number,
    replay_nothing,
    resync_at_any_time,
    take_any_fence,
    take_the_words_of_the_database_for_new,
    take_what_was_postponed_for_covered,
    trust_totals_of_before_the_database_was_set_back,
    trust_totals_of_before_the_meeting,
)
from tests.support.interleaving import install_gates, worlds
from videos import counters

ORDERS = int(os.environ.get("STREAMING_ORDERS", "500"))
FIRST_SEED = int(os.environ.get("STREAMING_SEED", "0"))
# One actor runs at a time, so an order has the same steps on every database: each takes orders of its own.
DATABASES = ("sqlite", "mariadb", "mysql")
PARTS = 4
STORES_OF = {"none": (), "database": ("database",), "redis": ("redis",), "both": ("database", "redis")}
BROKEN_ORDERS = 500  # in which a broken rule must show; the rarest shows in 1 order of 60

pytestmark = [
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("one_shard"),
    pytest.mark.no_cover,  # tracing takes as long as the orders themselves, and other tests pass everywhere here
]


@pytest.fixture
def one_shard(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All on one shard, in chunks of one video, so that there are as many steps between others' as can be."""
    settings.VIDEOS_SHARDS = 1
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 1
    install_gates(monkeypatch)


@pytest.mark.parametrize("stores", STORES_OF.values(), ids=STORES_OF)
def test_no_order_of_steps_finds_a_fault(
    stores: tuple[str, ...], database_kind: str, redis_client: redis.Redis
) -> None:
    first = FIRST_SEED + (DATABASES.index(database_kind) * PARTS + len(stores)) * ORDERS
    for seed, faults in worlds(ORDERS // PARTS, first, redis_client, stores=stores):
        assert (seed, faults) == (seed, {})


# Each rule with an order that shows it broken. After a change of the steps another order may be the first, later.
Rule = Callable[[pytest.MonkeyPatch], None]
SHARED_RULES: dict[Rule, int] = {  # scripts, and Python: the same on every database
    mint_before_the_claim: 50_000,
    confirm_without_the_number: 50_000,
    read_without_the_number: 50_000,
    forget_what_gathers_during_a_batch: 50_001,
    keep_old_pending_sums: 50_001,
    forget_what_is_pending_where_live_expired: 50_000,
    forget_what_is_claimed_where_live_expired: 50_000,
    add_what_is_claimed_to_rows_that_have_it: 50_000,
    judge_a_like_without_the_claimed_field: 50_000,
    resync_at_any_time: 50_000,
    let_old_wishes_undo_new_ones: 50_000,
    forget_the_notes: 50_001,
}
SHOWN_WITHOUT_REDIS = {resync_at_any_time, let_old_wishes_undo_new_ones, forget_the_notes}
SHOWN_BY_SETBACKS: dict[Rule, str] = {  # of these stores
    keep_nothing_for_a_replay: "database",
    replay_nothing: "database",
    open_a_batch_before_the_one_before_it: "database",
    finish_whatever_was_taken_in: "database",
    take_the_words_of_the_database_for_new: "database",
    give_back_without_the_number: "redis",
    let_a_mark_that_went_back_go: "redis",
    take_what_was_postponed_for_covered: "redis",
    act_on_no_newer_batch: "redis",
    trust_totals_of_before_the_database_was_set_back: "both",
    act_at_each_meeting: "redis",
    take_any_fence: "redis",
    trust_totals_of_before_the_meeting: "redis",
}
SHARED_RULES |= dict.fromkeys(SHOWN_BY_SETBACKS, 50_000) | {
    take_the_words_of_the_database_for_new: 60_060,
    give_back_without_the_number: 50_120,
    let_a_mark_that_went_back_go: 50_390,
    trust_totals_of_before_the_database_was_set_back: 50_120,
    trust_totals_of_before_the_meeting: 50_070,
}
BROKEN_RULES = [
    *(pytest.param(*rule, marks=pytest.mark.only("sqlite"), id=rule[0].__name__) for rule in SHARED_RULES.items()),
    pytest.param(ignore_the_watermark, 50_001, id="ignore_the_watermark"),  # a database's own SQL
]


@pytest.mark.parametrize(("break_rule", "first"), BROKEN_RULES)
def test_a_broken_rule_is_found(
    break_rule: Rule,
    first: int,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_rule(monkeypatch)
    stores = STORES_OF[SHOWN_BY_SETBACKS.get(break_rule, "none")]
    away = break_rule in SHOWN_WITHOUT_REDIS
    found: Counter[str] = Counter()
    try:
        for _seed, faults in worlds(BROKEN_ORDERS, first, redis_client, away=away, stores=stores):
            found += faults
            if found:
                break
    except AssertionError as error:  # the ledger's own guard noticed
        found["guard"] += "rows changed" in str(error)
    except counters.Unmet:  # no flush finishes
        found["stuck"] += 1
    assert found
