"""Kill -9 at every step of a real flush, of Redis, and of the database: afterwards every number is exact."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from servers import MariaDBServer, Process, RedisServer, wait_until
from tests.support.factories import make_likes, make_users, make_videos
from tests.support.load import Load
from videos import counters, services
from videos.flush import reconcile, run_flush
from videos.models import FlushBatch

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

ONCE = ("newest_batches", "claim", "make_durable", "open_batch", "sums", "finish_batch", "close", "note_finished_run")
STATEMENTS = ("insert_likes", "delete_likes", "add_counts", "add_hours")
STEPS = [
    f"{moment} {call}{occurrence}"
    for call in (*ONCE, "apply", "confirm", *STATEMENTS)
    for moment in ("before", "after")
    for occurrence in ("", " 2")
    if not (occurrence and call in ONCE)
]


@pytest.fixture
def one_shard(settings: Any) -> None:
    """All on one shard, so that a flush has few steps and each is killed at."""
    settings.VIDEOS_SHARDS = 1


@pytest.fixture
def flush_at(service_env: dict[str, str], tmp_path: Path, settings: Any) -> Iterator[Callable[..., Process]]:
    """`flush_at("STOP", "after apply")` starts a flush, with further options, that gets the signal at that step."""
    started: list[Process] = []

    def run(name: str, step: str, *options: str) -> Process:
        command = [sys.executable, "-m", "tests.support.kill_at", name, step, "flush_counters", *options]
        log = tmp_path / f"flush-{len(started)}.log"
        env = service_env | {"KILL_AT_CHUNK_FIELDS": "20", "KILL_AT_SHARDS": str(settings.VIDEOS_SHARDS)}
        started.append(Process(command, log=log, env=env))
        return started[-1]

    yield run
    for process in started:
        process.kill()


def is_stopped(process: Process) -> bool:
    """Whether SIGSTOP has reached it."""
    return Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def flush_and_check(load: Load) -> None:
    """After a last flush every number is exact."""
    run_flush()
    load.check()
    assert load.unsure.total() == 0
    assert reconcile().differences == []


def kill_under_load(flush_at: Callable[..., Process], steps: Sequence[str], *options: str) -> None:
    """Kill one flush after the other, each at one of these steps; afterwards every number is exact."""
    with Load(make_videos(20), make_users(30), threads=2, rest=0.002) as load:
        process = flush_at("KILL", ", ".join(steps), *options)
        assert process.wait(120) == 0, process.output
    flush_and_check(load)


@pytest.mark.usefixtures("one_shard")
def test_flush_killed_at_each_of_its_steps_is_exact(flush_at: Callable[..., Process]) -> None:
    kill_under_load(flush_at, STEPS)


def test_flush_of_several_threads_killed_while_each_has_a_shard_is_exact(
    flush_at: Callable[..., Process], settings: Any
) -> None:
    settings.VIDEOS_SHARDS = 4
    moments = ("after claim", "after apply", "before confirm", "before sums")
    kill_under_load(flush_at, [f"{moment} {n}" for moment in moments for n in (2, 3)])


@pytest.mark.usefixtures("one_shard")
def test_gentle_flush_killed_while_it_rests_is_exact(flush_at: Callable[..., Process], database_kind: str) -> None:
    """After each read and confirm; after each statement too, most of them within a transaction, but on SQLite."""
    rests = 2 if database_kind == "sqlite" else 14
    kill_under_load(flush_at, ["before rest", *(f"before rest {n}" for n in range(2, rests + 1))], "--gently", "1")


@pytest.mark.usefixtures("one_shard")
def test_flusher_that_sleeps_through_its_batch_changes_nothing(flush_at: Callable[..., Process]) -> None:
    videos, users = make_videos(20), make_users(30)
    with Load(videos, users, threads=2, rest=0.002) as load:
        for step in ("after claim", "before apply", "after apply", "after apply 2", "before confirm 2", "before sums"):
            time.sleep(0.3)
            sleeper = flush_at("STOP", step)
            wait_until(lambda process=sleeper: is_stopped(process), what=step)  # type: ignore[misc]
            for _ in range(2):
                assert run_flush().failures == {}
                time.sleep(0.1)
            sleeper.send(signal.SIGCONT)
            assert sleeper.wait(60) == 0, sleeper.output
    flush_and_check(load)


def test_redis_killed_under_load_loses_nothing_acknowledged(own_redis: RedisServer, settings: Any) -> None:
    settings.VIDEOS_REDIS_PAUSE_SECONDS = 0.05
    videos, users = make_videos(20), make_users(40)
    with Load(videos, users, threads=4, rest=0.001) as load:
        for _ in range(4):
            time.sleep(0.4)
            run_flush()
            time.sleep(0.2)
            own_redis.kill()
            time.sleep(0.3)
            own_redis.restart()
            time.sleep(0.2)
    time.sleep(0.1)
    for _ in range(3):
        assert run_flush().failures == {}
    load.check()
    assert reconcile().differences == []
    assert not FlushBatch.objects.filter(rewound=True).exists()


def test_database_killed_in_the_middle_of_a_flush_loses_nothing_and_doubles_nothing(
    own_database: MariaDBServer, settings: Any
) -> None:
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 5
    videos, users = make_videos(40), make_users(40)
    failed = 0
    with Load(videos, users, threads=3, rest=0.001) as load:
        for _ in range(3):
            time.sleep(0.5)
            chunks: list[int] = []

            def kill_in_the_middle(*_: object, chunks: list[int] = chunks) -> None:
                chunks.append(1)
                if len(chunks) == 7:
                    own_database.kill()

            report = run_flush(progress=kill_in_the_middle)
            failed += report.failed
            own_database.restart()
    assert failed == 3
    run_flush()  # finds the connection of before the restart
    assert run_flush().failures == {}
    load.check()
    assert reconcile().differences == []


def test_flush_loop_ends_cleanly_on_sigterm(manage: Callable[..., Process]) -> None:
    videos, users = make_videos(10), make_users(10)
    loop = manage("flush_counters", "--every", "0.2")
    with Load(videos, users, threads=2, rest=0.001) as load:
        wait_until(lambda: "likes added" in loop.output, what="a run of the loop")
        loop.send(signal.SIGTERM)
        assert loop.wait(20) == 0, loop.output
    assert "likes added" in loop.output
    run_flush()
    load.check()


def test_emptied_redis_is_reported_as_rewound_and_likes_stay_exact(redis_client: Any) -> None:
    (video,), users = make_likes(users=3)
    run_flush()
    redis_client.flushdb()
    services.set_like(video_id=video, user_id=users[0], liked=False)
    report = run_flush()
    assert report.rewound == 1
    assert FlushBatch.objects.filter(rewound=True).count() == 1
    assert services.get_like(video_id=video, user_id=users[1]).likes == 2
    assert reconcile().differences == []
    numbers = list(FlushBatch.objects.order_by("id").values_list("number", flat=True))
    assert numbers == sorted(set(numbers))
    assert counters.depths()[counters.shard_of(video)].pending == 0
