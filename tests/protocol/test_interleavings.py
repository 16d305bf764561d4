"""Random orders of everybody's steps find no fault; with a rule of the protocol broken they do."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.protocol.simulator.rules import (
    read_without_the_number,
    take_any_fence,
    take_the_words_of_the_database_for_new,
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
    settings.VIDEOS_DATABASE_WAIT_SECONDS = 20  # a busy machine is not a database that is away
    install_gates(monkeypatch)


@pytest.mark.parametrize("stores", STORES_OF.values(), ids=STORES_OF)
def test_no_order_of_steps_finds_a_fault(
    stores: tuple[str, ...], database_kind: str, redis_client: redis.Redis
) -> None:
    first = FIRST_SEED + (DATABASES.index(database_kind) * PARTS + len(stores)) * ORDERS
    for seed, faults in worlds(ORDERS // PARTS, first, redis_client, stores=stores):
        assert (seed, faults) == (seed, {})


# Rules that the simulator hardly shows broken, with the stores that are set back and an order that shows it. After a
# change of the steps another order may be the first, later.
Rule = Callable[[pytest.MonkeyPatch], None]
BROKEN_RULES: dict[Rule, tuple[str, int]] = {
    take_the_words_of_the_database_for_new: ("database", 60_402),
    read_without_the_number: ("none", 50_053),
    take_any_fence: ("redis", 50_037),
}


@pytest.mark.only("sqlite")
@pytest.mark.parametrize("break_rule", BROKEN_RULES, ids=lambda rule: rule.__name__)
def test_a_broken_rule_is_found(
    break_rule: Rule,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_rule(monkeypatch)
    stores, first = BROKEN_RULES[break_rule]
    found: Counter[str] = Counter()
    try:
        for _seed, faults in worlds(BROKEN_ORDERS, first, redis_client, stores=STORES_OF[stores]):
            found += faults
            if found:
                break
    except AssertionError as error:  # the ledger's own guard noticed
        found["guard"] += "rows changed" in str(error)
    except counters.Unmet:  # no flush finishes
        found["stuck"] += 1
    assert found
