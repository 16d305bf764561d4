"""Users that like and view all the time, and remember what the service acknowledged."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from django.db import connections

from tests.support.factories import WATCHED, WATCHED_SECONDS, wish_of
from tests.support.trends import wrong_site_hours, wrong_trends
from videos import counters, services
from videos.changes import DISLIKE, LIKE, NOTHING
from videos.models import FlushBatch, Video, VideoHour, VideoLike


class Load:
    """Threads that work until the `with` ends. Each user is one thread's own, so that a user's last wish is known."""

    def __init__(
        self,
        videos: Sequence[int],
        users: Sequence[int],
        *,
        threads: int = 4,
        rest: float = 0.0,
        first_viewer: int = 0,
        seed: int = 0,
    ) -> None:
        self.videos = videos
        self.rest = rest
        self.first_viewer = first_viewer
        self.seed = seed
        self.wishes: dict[tuple[int, int], int] = {}
        self.unknown: set[tuple[int, int]] = set()  # whose last wish may be in the rows or not
        self.views: Counter[int] = Counter()
        self.unsure: Counter[int] = Counter()  # views that may have counted
        self.acknowledged = 0
        self.refused = 0
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(i, users[i::threads]), daemon=True) for i in range(threads)
        ]
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        if error is None and self.errors:
            raise self.errors[0]

    def _work(self, number: int, users: Sequence[int]) -> None:
        choose = random.Random(self.seed + number)
        viewers = self.first_viewer
        try:
            while not self._stop.is_set():
                video = choose.choice(self.videos)
                if choose.random() < 0.5:
                    self._mark(video, choose.choice(users), wish_of(choose.random()))
                else:
                    viewers += 1
                    self._view(video, f"{number}-{viewers}")
                time.sleep(self.rest)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self.errors.append(error)
        finally:
            connections.close_all()

    def _mark(self, video: int, user: int, value: int) -> None:
        while not self._stop.is_set():
            with suppress(services.Unavailable):
                like = services.set_mark(video_id=video, user_id=user, value=value)
                assert like.mark == value
                self.wishes[video, user] = value
                self.acknowledged += 1
                return
            self.refused += 1
            # The wish may have been written: repeat it until it is acknowledged.
            time.sleep(0.02)
        self.wishes.pop((video, user), None)
        self.unknown.add((video, user))

    def _view(self, video: int, viewer: str) -> None:
        try:
            view = services.record_view(event=services.ViewEvent(video, viewer, watched=WATCHED))
        except services.Unavailable:
            with self._lock:
                self.refused += 1
                self.unsure[video] += 1
            return
        with self._lock:
            self.views[video] += view.counted
            self.acknowledged += 1

    def check(self) -> None:
        """After the last flush: every number is exact."""
        assert self.acknowledged > 0
        marks = {(one.video_id, one.user_id): one.value for one in VideoLike.objects.all()}
        for wish, value in self.wishes.items():
            assert marks.get(wish, NOTHING) == value, f"user {wish[1]} last wished {value} of video {wish[0]}"
        counted = Counter((video, value) for (video, _), value in marks.items())
        hours = Counter[int]()
        for video, views in VideoHour.objects.values_list("video_id", "views"):
            hours[video] += views
        live = counters.lookup(self.videos, None)
        for row in Video.objects.filter(id__in=self.videos):
            assert (row.like_count, row.dislike_count) == (counted[row.pk, LIKE], counted[row.pk, DISLIKE])
            assert self.views[row.pk] <= row.view_count <= self.views[row.pk] + self.unsure[row.pk]
            assert hours[row.pk] == row.view_count
            assert row.watch_seconds == row.view_count * WATCHED_SECONDS
            assert live[row.pk].totals in {None, row.totals}
        check_batches()
        assert wrong_site_hours() == set()
        assert [depth for depth in counters.depths() if depth.pending or depth.claimed] == []


def check_batches() -> None:
    """Every claimed field is accounted for, every batch is finished, and what trends is what the hours say."""
    assert wrong_trends() == []
    for batch in FlushBatch.objects.all():
        assert batch.finished_at is not None
        assert batch.fields == batch.applied + batch.repeated + batch.dropped + batch.rejected
