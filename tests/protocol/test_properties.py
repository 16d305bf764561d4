"""Any sequence of requests, flushes, crashes, repairs and deletions, against a model of ten lines."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.factories import make_user, make_video
from tests.support.faults import install_ticks, redis_refusing
from tests.support.load import check_batches
from videos import counters, ledger, services
from videos.counters import connection as wire
from videos.flush import reconcile, run_flush, workers
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

PLACES = st.integers(0, 2)  # of a video or a user
CRASH_POINTS = (
    (counters.Batch, "make_durable"),
    (ledger, "open_batch"),
    (ledger, "apply"),
    (counters.Batch, "confirm"),
    (counters.Batch, "sums"),
    (counters.Batch, "close"),
    (ledger, "finish_batch"),
    (ledger, "settle"),
)
numbers = itertools.count()


class Crash(BaseException):
    """The flush is gone."""


class CountersMachine(RuleBasedStateMachine):
    """The service beside a dictionary of wishes and a dictionary of views."""

    @initialize()
    def begin(self) -> None:
        with connection.cursor() as cursor:
            for model in (VideoLike, VideoHour, StaleLive, FlushBatch, Video):  # what a failed sequence left
                cursor.execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608
        wire.flush_call("FLUSHDB")
        self.videos: list[Video] = []
        self.users: list[User] = []
        self.wishes: set[tuple[int, int]] = set()
        self.views: dict[int, int] = {}
        self.owner = make_user(f"owner{next(numbers)}")
        for _ in range(3):
            self.users.append(self._user())
            self.videos.append(self._video())

    def _user(self) -> User:
        return make_user(f"user{next(numbers)}")

    def _video(self) -> Video:
        video = make_video(self.owner)
        self.views[video.pk] = 0
        return video

    @rule(video=PLACES, user=PLACES, liked=st.booleans(), redis_is_away=st.booleans())
    def like(self, video: int, user: int, liked: bool, redis_is_away: bool) -> None:
        pair = self.videos[video].pk, self.users[user].pk
        with redis_refusing(refuses=redis_is_away):
            like = services.set_like(video_id=pair[0], user_id=pair[1], liked=liked)
        assert like.liked is liked
        (self.wishes.add if liked else self.wishes.discard)(pair)

    @rule(video=PLACES, redis_is_away=st.booleans())
    def view(self, video: int, redis_is_away: bool) -> None:
        pk = self.videos[video].pk
        with redis_refusing(refuses=redis_is_away):
            view = services.record_view(event=services.ViewEvent(pk, f"viewer{next(numbers)}"))
        assert view.counted
        self.views[pk] += 1

    @rule(video=PLACES, count=st.integers(1, 5))
    def view_in_a_batch(self, video: int, count: int) -> None:
        pk = self.videos[video].pk
        events = [services.ViewEvent(pk, f"viewer{next(numbers)}") for _ in range(count)]
        assert services.record_views(events=[*events, events[0]]).counted == count
        self.views[pk] += count

    @rule()
    def flush(self) -> None:
        assert run_flush().failures == {}

    @rule(point=st.sampled_from(CRASH_POINTS), after=st.booleans(), calls=st.integers(1, 3))
    def crash(self, point: tuple[Any, str], after: bool, calls: int) -> None:
        module, name = point
        function = getattr(module, name)
        left = calls

        def die(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                raise Crash
            result = function(*args, **kwargs)
            if left == 0:
                raise Crash
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, die)
            try:
                run_flush()
            except Crash:
                connection.close()

    @rule()
    def reconcile(self) -> None:
        assert reconcile(repair=True).differences == []

    @rule(user=PLACES)
    def delete_user(self, user: int) -> None:
        gone = self.users[user].pk
        self.users[user].delete()
        self.users[user] = self._user()
        self.wishes = {wish for wish in self.wishes if wish[1] != gone}

    @rule(video=PLACES)
    def delete_video(self, video: int) -> None:
        gone = self.videos[video].pk
        self.videos[video].delete()
        self.videos[video] = self._video()
        self.wishes = {wish for wish in self.wishes if wish[0] != gone}
        del self.views[gone]

    @rule(video=PLACES)
    def edit_video(self, video: int) -> None:
        self.videos[video].duration += 1
        self.videos[video].save()  # an old object: its counts are those of long ago

    @invariant()
    def counts_equal_rows(self) -> None:
        for row in Video.objects.all():
            assert row.like_count == VideoLike.objects.filter(video=row).count()

    def teardown(self) -> None:
        if not hasattr(self, "users"):
            return
        for _ in range(3):
            assert run_flush().failures == {}
        assert set(VideoLike.objects.values_list("video_id", "user_id")) == self.wishes
        live = counters.lookup([video.pk for video in self.videos], None)
        for row in Video.objects.all():
            assert row.view_count == self.views[row.pk]
            assert live[row.pk].totals in {None, row.totals}
        assert StaleLive.objects.count() == 0
        assert sum(depth.pending + depth.claimed for depth in counters.depths()) == 0
        check_batches()
        self.owner.delete()
        for user in self.users:
            user.delete()
        run_flush()


@pytest.fixture(autouse=True)
def two_shards(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few shards, small chunks, and a clock that never stands: a user's wishes have an order."""
    settings.VIDEOS_SHARDS = 2
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = 2
    install_ticks(monkeypatch)
    monkeypatch.setattr(workers, "keep_house", lambda: None)
    yield
    call_command("flush", interactive=False, verbosity=0)


def test_any_sequence_is_exact() -> None:
    run_state_machine_as_test(
        CountersMachine,
        settings=settings(
            max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
