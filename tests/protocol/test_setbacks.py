"""Real restores: Redis from an older append-only file, the database from an older copy, under load.

STREAMING_SETBACKS is the number of rounds, for a longer run by hand.
"""

import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from servers import MariaDBServer, RedisServer
from tests.support.factories import make_likes, make_users, make_videos
from tests.support.load import Load, check_batches
from videos import counters, services
from videos.counters.connection import FRESH_SECONDS
from videos.flush import reconcile, run_flush
from videos.models import FlushBatch, Video, VideoLike

ROUNDS = int(os.environ.get("STREAMING_SETBACKS", "3"))
FIRST_SEED = int(os.environ.get("STREAMING_SEED", "0"))

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def restore(server: RedisServer, copy: Path) -> None:
    """Kill the server, and start it on the copy of its append-only file."""
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(copy, server.folder / "appendonlydir")
    server.restart()
    time.sleep(2 * FRESH_SECONDS)  # so that idle connections notice


def flush_until_settled() -> None:
    """Flush; again for what a set-back stopped. The first flush may find a connection of before."""
    run_flush()
    for _ in range(2):
        assert run_flush().failures == {}


def test_a_like_after_redis_came_back_older_gets_its_row(own_redis: RedisServer, tmp_path: Path) -> None:
    (video,), (user,) = make_likes()
    run_flush()
    shutil.copytree(own_redis.folder / "appendonlydir", tmp_path / "copy")
    services.set_like(video_id=video, user_id=user, liked=False)
    run_flush()
    restore(own_redis, tmp_path / "copy")
    assert services.set_like(video_id=video, user_id=user, liked=True).likes == 1
    assert run_flush().rewound == 1
    assert VideoLike.objects.count() == Video.objects.get().like_count == 1


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_redis_restored_under_load_doubles_nothing_and_swallows_no_wish(
    round_: int, own_redis: RedisServer, tmp_path: Path, settings: Any
) -> None:
    settings.VIDEOS_REDIS_PAUSE_SECONDS = 0.05
    choose = random.Random(FIRST_SEED + round_)
    videos, users = make_videos(20), make_users(40)
    with Load(videos, users, threads=3, rest=0.001) as before:
        time.sleep(choose.uniform(0, 0.5))
        run_flush()
        time.sleep(choose.uniform(0, 0.5))
        shutil.copytree(own_redis.folder / "appendonlydir", tmp_path / "copy")
        for _ in range(choose.randint(0, 3)):
            time.sleep(choose.uniform(0, 0.3))
            run_flush()
        time.sleep(choose.uniform(0, 0.3))
    restore(own_redis, tmp_path / "copy")
    with Load(videos, users, threads=3, rest=0.001, first_viewer=1_000_000) as after:
        for _ in range(3):
            time.sleep(0.2)
            run_flush()
    flush_until_settled()
    liking = set(VideoLike.objects.values_list("video_id", "user_id"))
    assert {wish for wish, liked in after.wishes.items() if liked} - liking == set()
    assert {wish for wish, liked in after.wishes.items() if not liked} & liking == set()
    live = counters.lookup(videos, None)
    for row in Video.objects.all():
        assert (
            after.views[row.pk] <= row.view_count <= before.views[row.pk] + after.views[row.pk] + after.unsure[row.pk]
        )
        assert live[row.pk].totals in {None, row.totals}
    assert reconcile().differences == []
    check_batches()


@pytest.fixture
def set_back(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Callable[..., Any], ...]:
    """`copy()` copies the database, `restore()` puts the copy in its place."""
    if database_kind == "sqlite":
        request.getfixturevalue("transactional_db")
        path, kept = str(connection.settings_dict["NAME"]), str(tmp_path / "copy.sqlite3")

        def transfer(source: str, target: str) -> None:
            with (
                closing(sqlite3.connect(source, timeout=30)) as one,
                closing(sqlite3.connect(target, timeout=30)) as other,
            ):
                one.backup(other)

        return lambda: transfer(path, kept), lambda: transfer(kept, path)
    server: MariaDBServer = request.getfixturevalue("own_database")

    def swap(source: Path, target: Path) -> None:
        server.kill()
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        server.restart()
        connections.close_all()

    return lambda: swap(server.data, tmp_path / "copy"), lambda: swap(tmp_path / "copy", server.data)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_database_set_back_under_load_loses_nothing(
    round_: int, set_back: tuple[Callable[[], None], Callable[[], None]], settings: Any
) -> None:
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 20
    copy, restore_copy = set_back
    choose = random.Random(FIRST_SEED + round_)
    with Load(make_videos(20), make_users(40), threads=2, rest=0.002) as load:
        time.sleep(choose.uniform(0, 0.5))
        run_flush()
        copy()
        for _ in range(choose.randint(1, 4)):
            time.sleep(choose.uniform(0, 0.4))
            run_flush()
        restore_copy()
        time.sleep(choose.uniform(0, 0.3))
        run_flush()
    flush_until_settled()
    load.check()
    assert reconcile().differences == []
    assert not FlushBatch.objects.filter(rewound=True).exists()
