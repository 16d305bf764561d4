"""Real restores: Redis from an older append-only file, the database from an older copy, under load.

`script/soak setbacks` does a thousand of them, by minutes; here it does a few, by seconds.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from servers import ROOT, RedisServer
from tests.support.factories import make_likes
from videos import services
from videos.counters.connection import FRESH_SECONDS
from videos.flush import run_flush
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.slow]


@pytest.mark.django_db(transaction=True)
def test_a_like_after_redis_came_back_older_gets_its_row(own_redis: RedisServer, tmp_path: Path) -> None:
    (video,), (user,) = make_likes()
    run_flush()
    shutil.copytree(own_redis.folder / "appendonlydir", tmp_path / "copy")
    services.set_like(video_id=video, user_id=user, liked=False)
    run_flush()
    own_redis.kill()
    shutil.rmtree(own_redis.folder / "appendonlydir")
    shutil.copytree(tmp_path / "copy", own_redis.folder / "appendonlydir")
    own_redis.restart()
    time.sleep(2 * FRESH_SECONDS)  # so that idle connections notice
    assert services.set_like(video_id=video, user_id=user, liked=True).likes == 1
    assert run_flush().rewound == 1
    assert VideoLike.objects.count() == Video.objects.get().like_count == 1


def set_back(to: Path, *options: str) -> tuple[int, dict[str, int]]:
    """The exit code and the report of a short run."""
    command = [sys.executable, "-m", "tests.soak", "setbacks", "--oldest", "4", "--to", str(to), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (to / "setbacks.json").exists(), done.stdout + done.stderr
    return done.returncode, json.loads((to / "setbacks.json").read_text())


def test_stores_set_back_under_load_lose_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    turns = ("--database", "2", "--redis", "1", "--both", "1")
    code, report = set_back(tmp_path, "--on", request.config.getoption("--on"), *turns)
    assert code == 0
    assert min(report["replayed"] + report["rewound"], report["acknowledged"]) > 0


@pytest.mark.only("sqlite")
def test_batches_that_are_not_kept_are_found_missing(tmp_path: Path) -> None:
    """The first turn of this seed takes one of the oldest copies."""
    code, _ = set_back(tmp_path, "--on", "sqlite", "--database", "1", "--break", "done", "--seed", "228")
    assert code == 1
