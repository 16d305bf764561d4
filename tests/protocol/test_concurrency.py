"""A hundred threads on one video: the count equals the rows."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from tests.support.factories import make_users, make_videos
from tests.support.load import Load
from videos import services
from videos.flush import reconcile, run_flush
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

THREADS = 100


@pytest.fixture(autouse=True)
def patient(settings: Any) -> None:
    """Let the first request of each thread wait for its turn: how long that takes says how busy the machine is."""
    settings.VIDEOS_DATABASE_WAIT_SECONDS = 20


def in_threads(act: Callable[[int], None]) -> None:
    """Run `act(0)` … `act(99)` at once while a flush runs every few milliseconds; raise what one of them raised."""
    errors: list[BaseException] = []
    begin = threading.Barrier(THREADS)

    def run(number: int) -> None:
        try:
            begin.wait(30)
            act(number)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        report = run_flush()
        assert report.failures == {}
        time.sleep(0.005)
    run_flush()
    if errors:
        raise errors[0]


def test_hundred_users_like_and_unlike_one_video() -> None:
    (video,), users = make_videos(1), make_users(THREADS)

    def act(number: int) -> None:
        for i in range(11):
            services.set_like(video_id=video, user_id=users[number], liked=i % 2 == 0)

    in_threads(act)
    assert VideoLike.objects.count() == THREADS
    assert Video.objects.get().like_count == THREADS
    assert services.get_like(video_id=video, user_id=None).likes == THREADS


def test_one_user_likes_and_unlikes_from_a_hundred_places() -> None:
    (video,), (user,) = make_videos(1), make_users(1)

    def act(number: int) -> None:
        for i in range(10):
            services.set_like(video_id=video, user_id=user, liked=i % 2 == number % 2)

    in_threads(act)
    rows = VideoLike.objects.count()
    assert rows in {0, 1}
    assert Video.objects.get().like_count == rows
    like = services.get_like(video_id=video, user_id=user)
    assert (like.likes, like.liked) == (rows, bool(rows))


def test_hundred_threads_view_one_video_each_viewer_once() -> None:
    (video,) = make_videos(1)
    counted: list[bool] = []

    def act(number: int) -> None:
        for i in range(10):
            viewer = f"v{i * (THREADS // 2) + number // 2}"  # two threads play each viewer
            counted.append(services.record_view(event=services.ViewEvent(video, viewer)).counted)

    in_threads(act)
    assert counted.count(True) == THREADS // 2 * 10
    assert Video.objects.get().view_count == THREADS // 2 * 10


def test_overlapping_flushers_are_exact() -> None:
    videos, users = make_videos(30), make_users(40)
    stop = threading.Event()
    failures: list[dict[int, str]] = []

    def flush_all_the_time() -> None:
        while not stop.is_set():
            report = run_flush()
            if report.failures:
                failures.append(report.failures)
        connections.close_all()

    flushers = [threading.Thread(target=flush_all_the_time, daemon=True) for _ in range(4)]
    with Load(videos, users, threads=6) as load:
        for flusher in flushers:
            flusher.start()
        time.sleep(4)
    stop.set()
    for flusher in flushers:
        flusher.join(30)
    assert failures == []
    run_flush()
    load.check()
    assert reconcile().differences == []
