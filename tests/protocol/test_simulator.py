"""Random runs of the simulator find no fault; with a rule of the protocol broken they do.

STREAMING_SEEDS is how many seeds, from STREAMING_SEED on, the first test runs instead of its own. A seed that fails is
printed with its trace and with the command that runs it again.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from servers import MissingServerError, RedisServer
from tests.conftest import unavailable
from tests.protocol.simulator import rules
from tests.protocol.simulator.clock import Clock, prepare
from tests.protocol.simulator.network import shown
from tests.protocol.simulator.simulator import Simulator
from tests.protocol.simulator.world import Kind, World

SEEDS = int(os.environ.get("STREAMING_SEEDS", "0"))
FIRST_SEED = int(os.environ.get("STREAMING_SEED", "0"))
# One process runs at a time, so a run has the same steps on every database: each takes seeds of its own.
DATABASES = ("sqlite", "mariadb", "mysql")
OWN_SEEDS = {"sqlite": 400, "mariadb": 15, "mysql": 15}  # a run takes seconds on a server
BROKEN_SEEDS = 500  # in which a broken rule must show
Rule = Callable[[pytest.MonkeyPatch], None]

pytestmark = [
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.no_cover,  # tracing takes as long as the runs themselves, and other tests pass everywhere here
]


@pytest.fixture(scope="session")
def simulated_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Clock]]:
    """A Redis whose clock the simulator sets."""
    folder = tmp_path_factory.mktemp("simulated")
    server = RedisServer(
        folder, "--appendonly", "no", "--unixsocket", str(folder / "socket")
    )  # Valkey caches its clock
    try:
        memory = prepare(server)
        server.start()
    except MissingServerError as missing:
        unavailable(str(missing))
    else:
        yield server, Clock(memory)
    server.close()


@pytest.fixture
def simulator(
    simulated_redis: tuple[RedisServer, Clock], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Simulator]]:
    """Makes the simulator, once a rule is broken."""
    made: list[Simulator] = []

    def make() -> Simulator:
        made.append(Simulator(*simulated_redis, monkeypatch))
        return made[0]

    logging.disable()
    yield make
    logging.disable(logging.NOTSET)
    for one in made:
        one.close()


def report(world: World, seed: int, database: str) -> str:
    """What to print of a seed that fails."""
    command = f"STREAMING_SEEDS=1 STREAMING_SEED={seed} script/test tests/protocol/test_simulator.py -k no_run"
    return "\n".join([*map(shown, world.trace), f"{dict(world.book.faults)}; again, on {database}: {command}"])


@pytest.mark.timeout(300 + SEEDS)
def test_no_run_finds_a_fault(simulator: Callable[[], Simulator], database_kind: str) -> None:
    first = FIRST_SEED + (0 if SEEDS else DATABASES.index(database_kind) * 1000)
    failed, begun, runs = [], time.monotonic(), simulator()
    for seed in range(first, first + (SEEDS or OWN_SEEDS[database_kind])):
        world = runs.run(seed)
        if world.book.faults:
            failed.append(seed)
            sys.stdout.write(report(world, seed, database_kind) + "\n")
        if seed % 1000 == 999:
            sys.stdout.write(f"{seed} after {time.monotonic() - begun:.0f} s, failed: {failed}\n")
            sys.stdout.flush()
    assert failed == []


@pytest.mark.only("sqlite")
def test_one_seed_makes_one_run(simulator: Callable[[], Simulator]) -> None:
    runs = simulator()
    for seed in range(10):
        first, second = (list(map(shown, runs.run(seed).trace)) for _ in range(2))
        assert first == second


CALM = Kind(faulty=False, jumps=False, deletions=False, stores=(), tight=True)
AWAY, FAULTY = replace(CALM, away=True), replace(CALM, faulty=True)
REDIS, DATABASE = replace(CALM, stores=("redis",)), replace(CALM, stores=("database",))
# Each rule with runs that show it broken, and their first seed. After a change of the steps it may be another.
# Chance does not find all rules in hundreds of runs: a restart breaks connections here, so most of what it makes stale
# ends there. test_interleavings.py and test_late.py show the others.
SHARED_RULES: dict[Rule, tuple[Kind, int]] = {  # scripts, and Python: the same on every database
    rules.mint_before_the_claim: (CALM, 50_160),
    rules.confirm_without_the_number: (CALM, 50_169),
    rules.forget_what_gathers_during_a_batch: (CALM, 50_006),
    rules.keep_old_pending_sums: (CALM, 50_000),
    rules.forget_what_is_pending_where_live_expired: (CALM, 50_027),
    rules.forget_what_is_claimed_where_live_expired: (CALM, 50_100),
    rules.add_what_is_claimed_to_rows_that_have_it: (CALM, 50_118),
    rules.judge_a_like_without_the_claimed_field: (CALM, 50_000),
    rules.resync_at_any_time: (AWAY, 50_143),
    rules.let_old_wishes_undo_new_ones: (AWAY, 50_003),
    rules.leave_no_field_where_a_wish_changes_nothing: (AWAY, 50_000),
    rules.forget_the_notes: (AWAY, 50_003),
    rules.keep_nothing_for_a_replay: (DATABASE, 50_000),
    rules.replay_nothing: (DATABASE, 50_000),
    rules.open_a_batch_before_the_one_before_it: (DATABASE, 50_179),
    rules.finish_whatever_was_taken_in: (DATABASE, 50_000),
    rules.drop_batches_before_the_window_ends: (DATABASE, 50_003),
    rules.take_what_was_postponed_for_covered: (REDIS, 50_001),
    rules.act_on_no_newer_batch: (REDIS, 50_023),
    rules.act_at_each_meeting: (REDIS, 51_060),
    rules.trust_totals_of_before_the_meeting: (REDIS, 50_016),
    rules.let_late_scripts_act: (FAULTY, 50_110),
    rules.read_an_old_reply_on_a_new_call: (FAULTY, 50_900),
    rules.count_a_doubtful_view_in_the_rows: (FAULTY, 50_000),
    rules.forget_doubts_of_others: (FAULTY, 50_073),
    rules.send_twice_after_a_failure: (FAULTY, 51_400),
}
BROKEN_RULES = [
    *(
        pytest.param(rule, *how, marks=pytest.mark.only("sqlite"), id=rule.__name__)
        for rule, how in SHARED_RULES.items()
    ),
    pytest.param(rules.ignore_the_watermark, CALM, 50_001, id="ignore_the_watermark"),  # a database's own SQL
]


@pytest.mark.parametrize(("break_rule", "kind", "first"), BROKEN_RULES)
def test_a_broken_rule_is_found(
    break_rule: Rule,
    kind: Kind,
    first: int,
    simulator: Callable[[], Simulator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_rule(monkeypatch)
    runs = simulator()
    seeds = range(first, first + BROKEN_SEEDS)
    assert any(not fault.startswith("raised") for seed in seeds for fault in runs.run(seed, kind).book.faults)
