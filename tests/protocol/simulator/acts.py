"""What the simulator's processes do: the clients' requests, the flush, commands."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from django.contrib.auth.models import User

from tests.protocol.simulator.book import Book
from tests.protocol.simulator.clock import SECOND_US, Clock
from tests.protocol.simulator.process import Process
from tests.support.factories import WATCHED, WATCHED_SECONDS, wish_of
from videos import counters, flush, services
from videos.changes import Totals


class Acts:
    """The acts of one run. Each takes the process that does it."""

    def __init__(
        self,
        random: Random,
        clock: Clock,
        book: Book,
        *,
        videos: Sequence[int],
        users: Sequence[int],
        deletions: bool,
        rounds: int,
    ) -> None:
        self.random = random
        self.clock = clock
        self.trace = book.trace
        self.book = book
        self.videos = videos
        self.users = users
        self.deletions = deletions
        self.rounds = rounds  # of requests that a process takes part in
        self.viewers = itertools.count()
        self.busy: dict[int, int] = {}  # user -> when the next request may be sent
        self.open_views: set[tuple[int, str]] = set()  # of which a client was told nothing
        self.watched: list[tuple[int, list[Totals]]] = []  # videos that are read, and what was true meanwhile

    def _ask(self, process: Process, act: Callable[[], Any]) -> Any:
        """The answer to a request, which a client repeats after 503; None if it gives up."""
        for _ in range(self.random.choice((1, 4, 9))):
            process.in_request = True
            try:
                return act()
            except services.Unavailable:
                self.trace.append((self.clock.now_us, process.name, "503"))
            except (services.VideoNotFound, services.UserNotFound):
                if not self.deletions:
                    raise
                return None
            finally:
                process.in_request = False
            process.gate("retry", awake_at_us=self.clock.now_us + int(self.random.choice((0.3, 1, 2, 4)) * SECOND_US))
        return None

    def like(self, process: Process) -> None:
        """Likes and unlikes, of any user."""
        for _ in range(self.rounds):
            process.gate("begin")
            self._like_once(process)

    def _like_once(self, process: Process) -> None:
        now = self.clock.now_us
        free = [user for user in self.users if self.busy.get(user, 0) <= now]
        if not free:
            return
        video, user = self.random.choice(self.videos), self.random.choice(free)
        value = wish_of(self.random.random())
        self.busy[user] = sys.maxsize  # a user sends one request after the other
        self.book.asked((video, user), value)
        try:
            like = self._ask(process, lambda: services.set_mark(video_id=video, user_id=user, value=value))
            if like is not None:
                self.trace.append((self.clock.now_us, process.name, f"200 {like}"))
                self.book.answered((video, user), value)
        finally:  # the script of a process that was killed may come until its deadline
            self.busy[user] = self.clock.now_us + (SECOND_US // 2 if process.dying else 0)

    def view(self, process: Process) -> None:
        """Views, one or several at a time."""
        for _ in range(self.rounds):
            process.gate("begin")
            events = [
                self._event_of(video)
                for video in self.random.sample(self.videos, min(len(self.videos), self.random.choice((1, 1, 1, 2))))
            ]
            self._record(process, events)

    def _record(self, process: Process, events: Sequence[services.ViewEvent]) -> None:
        process.viewers = {event.video_id: event.viewer for event in events}
        self.open_views.update(process.viewers.items())
        if len(events) == 1:
            view = self._ask(process, lambda: services.record_view(event=events[0]))
        else:
            view = self._ask(process, lambda: services.record_views(events=events))
        if view is None:
            return
        self.trace.append((self.clock.now_us, process.name, f"200 {view}"))
        if not self.deletions and (len(events) > 1 or view.reason in {"new", "seen"}):
            for one in process.viewers.items():
                self.book.seen(one)
        self.open_views.difference_update(process.viewers.items())

    def _event_of(self, video: int) -> services.ViewEvent:
        """A view of somebody new, or again of somebody."""
        known = [viewer for on, viewer in self.book.requests if on == video and (on, viewer) not in self.open_views]
        viewer = self.random.choice(known) if known and self.random.random() < 0.2 else f"viewer{next(self.viewers)}"
        self.book.requests[video, viewer] += 1
        return services.ViewEvent(video, viewer, watched=WATCHED)

    def write_without_redis(self, process: Process) -> None:
        """Likes and views of a web server that never reaches Redis."""
        process.machine.cut_off_until_us = sys.maxsize
        for _ in range(self.rounds):
            process.gate("begin")
            if self.random.random() < 0.7:
                self._like_once(process)
            else:
                self._record(process, [self._event_of(self.random.choice(self.videos))])

    def read(self, process: Process) -> None:
        """Reads of totals, which must have been true while they were read."""
        for _ in range(self.rounds):
            process.gate("begin")
            video = self.random.choice(self.videos)
            watch = (video, [self.book.truth(video)])
            self.watched.append(watch)
            counts = self._ask(process, partial(services.read_counts, video_ids=[video], user_id=None))
            self.watched = [other for other in self.watched if other is not watch]
            # After a set-back numbers may be low until the next flush.
            if counts is None or counts.stored or self.book.setbacks or self.deletions:
                continue
            totals = counts.by_video[video].totals
            self.book.fault("reader watched", totals.watched != totals.views * WATCHED_SECONDS)
            # What was written without Redis shows with a later flush.
            late = self.book.views_by_rows[video]
            if not any(effect.stored for (on, _), made in self.book.wishes.items() if on == video for effect in made):
                marks = {(seen.likes, seen.dislikes) for seen in watch[1]}
                self.book.fault("reader likes", (totals.likes, totals.dislikes) not in marks)
            self.book.fault("reader views", not any(0 <= seen.views - totals.views <= late for seen in watch[1]))

    def flush(self, process: Process) -> None:
        """Runs of the flush."""
        for _ in range(self.rounds // 2):
            process.gate("begin")
            flush.run_flush()

    def reconcile(self, process: Process) -> None:
        """Recounts, which must find nothing; a repair is refused while Redis is away."""
        for _ in range(2):
            process.gate("begin")
            with contextlib.suppress(counters.CountersUnavailable):
                self.book.fault("reconcile", len(flush.reconcile(repair=True).differences))

    def delete(self, process: Process) -> None:
        """Deletes a user or a video."""
        process.gate("write")
        if self.random.random() < 0.5:
            user = self.random.choice(self.users)
            User.objects.get(pk=user).delete()
            self.book.gone_users.add(user)
        else:
            process.in_request = True
            services.delete_video(video_id=self.random.choice(self.videos))
            process.in_request = False
