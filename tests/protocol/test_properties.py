"""Any sequence of requests, flushes, crashes, repairs and deletions, against a model of ten lines."""

import itertools
from collections import Counter
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
from videos.changes import DAY_SECONDS, DISLIKE, LIKE, NOTHING, Totals
from videos.conf import conf
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
ADDRESS_LIMIT = 2  # of a video, by signed-out viewers
ADDRESS_VIEWS = 6  # of all videos
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
        self.wishes: dict[tuple[int, int], int] = {}  # video and user -> the value of the mark
        self.views: dict[int, int] = {}
        self.watched: dict[int, int] = {}
        self.stale: set[int] = set()  # videos whose rows were written past Redis: they show it with the next flush
        self.at_address: Counter[int] = Counter()
        self.from_address = 0
        self.owner = make_user(f"owner{next(numbers)}")
        for _ in range(3):
            self.users.append(self._user())
            self.videos.append(self._video())

    def _user(self) -> User:
        return make_user(f"user{next(numbers)}")

    def _video(self) -> Video:
        video = make_video(self.owner, duration=10)
        self.views[video.pk] = self.watched[video.pk] = 0
        return video

    @rule(video=PLACES, user=PLACES, value=st.sampled_from((LIKE, NOTHING, DISLIKE)), redis_is_away=st.booleans())
    def mark(self, video: int, user: int, value: int, redis_is_away: bool) -> None:
        pair = self.videos[video].pk, self.users[user].pk
        with redis_refusing(refuses=redis_is_away):
            like = services.set_mark(video_id=pair[0], user_id=pair[1], value=value)
        assert like.mark == value
        self.wishes[pair] = value
        if redis_is_away:
            self.stale.add(pair[0])

    def _count(self, video: Video, watched: float | None, views: int = 1) -> None:
        self.views[video.pk] += views
        most = min(watched or 0, video.duration or DAY_SECONDS)
        self.watched[video.pk] += views * int(most + 0.5)

    @rule(video=PLACES, watched=st.sampled_from((None, 5.5, 60, 1e9)), redis_is_away=st.booleans())
    def view(self, video: int, watched: float | None, redis_is_away: bool) -> None:
        shown, pk = self.videos[video], self.videos[video].pk
        with redis_refusing(refuses=redis_is_away):
            event = services.ViewEvent(pk, f"viewer{next(numbers)}", watched=watched)
            view = services.record_view(event=event)
        assert view.counted
        self._count(shown, watched)
        if redis_is_away:
            self.stale.add(pk)

    @rule(
        video=PLACES,
        by=st.sampled_from(("owner", "user", None)),
        watched=st.sampled_from((None, 0, 3, 4, 5, 29, 30)),
        bot=st.booleans(),
        address=st.sampled_from((None, "here")),
    )
    def view_by_the_rules(
        self, video: int, by: str | None, watched: int | None, bot: bool, address: str | None
    ) -> None:
        shown = self.videos[video]
        user = {"owner": self.owner.pk, "user": self.users[0].pk}.get(by or "")
        event = services.ViewEvent(shown.pk, f"viewer{next(numbers)}", user, watched, address=address, bot=bot)
        reason = "bot" if bot else "owner" if user == shown.owner_id else "new"
        if reason == "new" and watched is not None and watched < min(5, shown.duration / 2 or 5):
            reason = "short"
        if reason == "new" and address is not None:
            over = user is None and self.at_address[shown.pk] >= ADDRESS_LIMIT
            if over or self.from_address >= ADDRESS_VIEWS:
                reason = "address"
            self.at_address[shown.pk] += user is None
            self.from_address += reason == "new"
        again = "seen" if reason == "new" else reason
        for expected in (reason, again):
            view = services.record_view(event=event)
            if expected == "new":
                self._count(shown, watched)
            assert (view.counted, view.reason) == (expected == "new", expected)
            assert view.views == self.views[shown.pk] or shown.pk in self.stale

    @rule(video=PLACES, count=st.integers(1, 5))
    def view_in_a_batch(self, video: int, count: int) -> None:
        pk = self.videos[video].pk
        events = [services.ViewEvent(pk, f"viewer{next(numbers)}", watched=60) for _ in range(count)]
        assert services.record_views(events=[*events, events[0]]).counted == count
        self._count(self.videos[video], 60, count)

    @rule(video=PLACES, apart=st.sampled_from((-1, 0, 1, 3000)))
    def view_at_a_time(self, video: int, apart: int) -> None:
        """Of one viewer, views with a time count that are a window apart."""
        pk, viewer, at_ms = self.videos[video].pk, f"viewer{next(numbers)}", counters.now_ms() - 86_400_000
        window_ms = conf.VIEW_WINDOW_SECONDS * 1000
        times = (at_ms, at_ms + window_ms + apart * 1000, at_ms)
        events = [services.ViewEvent(pk, viewer, at_ms=time) for time in times]
        counted = 2 if apart >= 0 else 1
        sums = services.record_views(events=events)
        assert (sums.counted, sums.ignored) == (counted, {"seen": 3 - counted})
        self.views[pk] += counted

    @rule(video=PLACES, user=PLACES)
    def read(self, video: int, user: int) -> None:
        pk, reader = self.videos[video].pk, self.users[user].pk
        window = services.Window("created_at", True, None, 100)
        if pk not in self.stale:
            count = services.read_counts(video_ids=[pk], user_id=reader).by_video[pk]
            marks = {user: value for (on, user), value in self.wishes.items() if on == pk}
            likers = {user for user, value in marks.items() if value == LIKE}
            dislikes = sum(value == DISLIKE for value in marks.values())
            assert count.totals == Totals(len(likers), self.views[pk], self.watched[pk], dislikes)
            assert count.mark == marks.get(reader, NOTHING)
            assert {like.id for like in services.likers(video_id=pk, user_id=None, window=window).likes} == likers
        if not self.stale:
            liked = services.liked_videos(user_id=reader, window=window).likes
            assert {like.id for like in liked} == {
                on for (on, user), value in self.wishes.items() if (user, value) == (reader, LIKE)
            }

    @rule()
    def flush(self) -> None:
        assert run_flush().failures == {}
        self.stale.clear()

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
        self.stale |= {on for (on, user), value in self.wishes.items() if user == gone and value}
        self.wishes = {wish: value for wish, value in self.wishes.items() if wish[1] != gone}

    @rule(video=PLACES)
    def delete_video(self, video: int) -> None:
        gone = self.videos[video].pk
        self.videos[video].delete()
        self.videos[video] = self._video()
        self.wishes = {wish: value for wish, value in self.wishes.items() if wish[0] != gone}
        del self.views[gone]

    @rule(video=PLACES)
    def edit_video(self, video: int) -> None:
        self.videos[video].duration += 1
        self.videos[video].save()  # an old object: its counts are those of long ago

    @rule(video=PLACES, duration=st.sampled_from((0, 8, 100)))
    def edit_past_the_service(self, video: int, duration: int) -> None:
        chosen = Video.objects.filter(pk=self.videos[video].pk)
        chosen.update(duration=duration)
        self.flush()
        self.videos[video].refresh_from_db()

    @invariant()
    def counts_equal_rows(self) -> None:
        for row in Video.objects.all():
            marks = VideoLike.objects.filter(video=row)
            assert row.like_count == marks.filter(value=LIKE).count()
            assert row.dislike_count == marks.filter(value=DISLIKE).count()

    def teardown(self) -> None:
        if not hasattr(self, "users"):
            return
        for _ in range(3):
            assert run_flush().failures == {}
        marks = {(one.video_id, one.user_id): one.value for one in VideoLike.objects.all()}
        assert marks == {wish: value for wish, value in self.wishes.items() if value}
        live = counters.lookup([video.pk for video in self.videos], None)
        for row in Video.objects.all():
            assert (row.view_count, row.watch_seconds) == (self.views[row.pk], self.watched[row.pk])
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
    settings.VIDEOS_VIEW_MIN_WATCHED_SECONDS = 5
    settings.VIDEOS_VIEW_ADDRESS_LIMIT, settings.VIDEOS_ADDRESS_VIEWS = ADDRESS_LIMIT, ADDRESS_VIEWS
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
