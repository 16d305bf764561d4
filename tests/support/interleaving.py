"""The real code, step by step in random orders: each step is one script call or one transaction.

Every actor is a thread with connections of its own that waits at a gate before each of its steps; one thread runs at
a time. An actor may stall for long and a flusher may die at any gate. Redis, the database, or both may be set back to
an earlier state (see setbacks.py). What must hold is that of the model in tests/protocol/model: views equal what
was acknowledged, `like_count` equals rows, rows equal each user's last acknowledged wish, live equals the row, and no
reader ever sees a number that was true at no moment between its beginning and its end.

Over 250 lines: the actors of an order and its judge share the state of one World.
"""

import contextlib
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import redis
from django.db import connection, connections
from django.db.models import Sum

from tests.support.factories import WATCHED, WATCHED_SECONDS, make_users, make_videos, wish_of
from tests.support.faults import install_ticks
from tests.support.setbacks import Setbacks, watch
from tests.support.trends import wrong_site_hours, wrong_trends
from videos import counters, flush, ledger, meeting, services
from videos.changes import COLUMNS, DISLIKE, LIKE, MARKS, NOTHING, SUM_COLUMNS, Totals
from videos.conf import conf
from videos.counters import connection as wire
from videos.counters import meetings, scripts
from videos.flush import workers
from videos.ledger import reads, sql
from videos.models import (
    CountersIdentity,
    FlushBatch,
    Meeting,
    SiteHour,
    StaleLive,
    TrendingVideo,
    Video,
    VideoHour,
    VideoLike,
)  # fmt: skip

VIDEOS, USERS = 2, 3
LEDGER_READS = ("newest_batches", "shards_with_notes", "stale_videos", "compare_batches")
READS = ("read_counts", "read_facts", "read_facts_and_state")
LEDGER_WRITES = ("open_batch", "finish_batch", "apply", "write_direct", "settle", "meet", "end_forgotten")
GATE_SECONDS = 30.0  # a test that hangs says where


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class Actor:
    """A thread that does one step a turn."""

    current = threading.local()

    def __init__(self, act: Callable[["Actor"], None], name: str, weight: float) -> None:
        self.name = name
        self.weight = weight
        self.without_redis = False
        self.met_run = ""  # each actor is a process of its own
        self.next_step = "begin"
        self.in_transaction = False
        self.finished = False
        self.dying = False
        self.error: BaseException | None = None
        self._go, self._back = threading.Lock(), threading.Lock()  # held until it is the actor's turn, or the world's
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, args=(act,), name=name, daemon=True)
        self._thread.start()

    def _run(self, act: Callable[["Actor"], None]) -> None:
        Actor.current.actor = self
        self._go.acquire()
        try:
            if not self.dying:
                act(self)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self.error = error
        finally:
            connections.close_all()
            self.finished = True
            self._back.release()

    def gate(self, step: str) -> None:
        """Wait for the next turn; called in the actor's own thread."""
        if self.dying:
            raise Killed
        self.next_step = step
        self.in_transaction = connection.in_atomic_block
        self._back.release()
        self._go.acquire()
        self.in_transaction = False
        if self.dying:
            raise Killed

    def turn(self) -> None:
        """Let the actor do one step; called by the world."""
        self._go.release()
        if not self._back.acquire(timeout=GATE_SECONDS):
            raise AssertionError(f"{self.name} hangs in {self.next_step}")
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        """End the actor at its gate."""
        self.dying = True
        self.turn()


def gated(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, waiting at the gate first when an actor calls it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        actor = getattr(Actor.current, "actor", None)
        if actor is not None:
            actor.gate(step)
        return function(*args, **kwargs)

    return call


def install_gates(patch: pytest.MonkeyPatch) -> None:
    """Put a gate before every script call and every transaction, and a clock that never stands."""
    exchange = wire.exchange

    def gated_exchange(commands: Sequence[tuple[Any, ...]], **kwargs: Any) -> Any:
        actor = getattr(Actor.current, "actor", None)
        if actor is not None:
            if actor.without_redis:
                raise counters.CountersUnavailable
            actor.gate("redis")
            if len(commands) > 1 and commands[0][1] == scripts.PRIME.sha:
                # A server may run commands of other clients between those of a pipeline.
                primed = exchange(commands[:1], **kwargs)
                actor.gate("redis")
                return primed + exchange(commands[1:], **kwargs)
        return exchange(commands, **kwargs)

    patch.setattr(wire, "exchange", gated_exchange)
    patch.setattr(meetings, "exchange", gated_exchange)
    install_meetings(patch)
    for module, step, names in (
        (ledger, "read", LEDGER_READS),
        (reads, "read", READS),
        (ledger, "write", LEDGER_WRITES),
    ):
        for name in names:
            patch.setattr(module, name, gated(step, getattr(module, name)))
    install_ticks(patch)
    patch.setattr(conf, "FLUSH_THREADS", 1)  # a helping thread would pass the gates unseen
    # Durability, another number of shards and housekeeping are not interleaved.
    patch.setattr(counters.Batch, "make_durable", lambda batch: None)
    patch.setattr(workers, "keep_house", lambda: None)
    patch.setattr(workers, "POSTPONED_SECONDS", 0.0)
    patch.setattr(counters, "memory_share", lambda: 0.0)  # nor is a full Redis
    patch.setattr(conf, "ANONYMOUS_MEMORY_SHARE", 1)
    lock_free = sql.lock_free_videos

    def lock_unheld(video_ids: Iterable[int]) -> tuple[dict[int, Any], dict[int, int]]:
        free, held = lock_free(set(video_ids) - World.held)
        return free, held | sql.watermarks(World.held.intersection(video_ids))

    patch.setattr(sql, "lock_free_videos", lock_unheld)


def install_meetings(patch: pytest.MonkeyPatch) -> None:
    """Let each actor meet each start of Redis, as a process of its own would."""

    def meet(run: str, *, again: bool = False) -> None:
        actor = getattr(Actor.current, "actor", None)
        if actor is None:
            original_meet(run, again=again)
        elif again or run != actor.met_run:
            meeting.meet(run)
            if run != f"run{World.redis_run}":
                raise wire.Unmet  # Redis was set back meanwhile: this connection is broken
            actor.met_run = run

    original_meet = wire.meet
    patch.setattr(wire, "meet", meet)
    patch.setattr(wire.Lease, "run", lambda lease: f"run{World.redis_run}")


class World:
    """One random order over two videos of one shard."""

    redis_run = 0  # each start of Redis
    held: set[int] = set()  # noqa: RUF012  videos whose rows another session has locked

    def __init__(
        self,
        seed: int,
        videos: Sequence[int],
        users: Sequence[int],
        client: redis.Redis,
        *,
        away: bool,
        stores: Sequence[str] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.videos = videos
        self.users = users
        self.client = client
        self.viewers = itertools.count()
        self.wish: dict[tuple[int, int], int] = {}  # the value of each mark
        self.viewed: Counter[int] = Counter()
        self.busy: Counter[int] = Counter()
        self.busy_users: set[int] = set()
        self.watched: list[tuple[int, list[Totals]]] = []
        self.faults: Counter[str] = Counter()
        self.flushers = 4 if away else self.random.choice((1, 2, 3, 4))
        # Writers without Redis. What they write is as durable as the database's commit, no more.
        self.away = 2 if away else self.random.choice((0, 0, 1)) if not stores else 0
        self.setbacks = Setbacks(self, stores)
        self.holds = self.random.choice((0, 0, 4, 12))
        self.written_away: list[tuple[int, bool]] = []  # the video, and whether it is a view
        self.actors: list[Actor] = []

    def truth(self, video: int) -> Totals:
        """Totals as acknowledged."""
        marks, views = Counter(wish for (on, _), wish in self.wish.items() if on == video), self.viewed[video]
        return Totals(marks[LIKE], views, views * WATCHED_SECONDS, marks[DISLIKE])

    def run(self) -> Counter[str]:
        """Take the steps of all actors in random order, drain, and count what is wrong."""
        with pytest.MonkeyPatch.context() as patch:
            watch(self.setbacks, patch)
            return self._run()

    def _run(self) -> Counter[str]:
        self._cast()
        try:
            while self.actors:
                self._step()
        finally:
            for actor in self.actors:
                if not actor.finished:  # one that raised an error has ended
                    actor.kill()
        self.setbacks.last()
        self.held.clear()
        failed = [flush.run_flush().failed for _ in range(4)]
        self.faults["failed at last"] += failed[-1]
        self._judge()
        return self.faults

    def _cast(self) -> None:
        acts = [(self._like, "liker"), (self._view, "viewer"), (self._read, "reader")] * 2
        acts += [(self._flush, "flusher")] * self.flushers + [(self._write_without_redis, "away")] * self.away
        self.actors = [Actor(act, name, self.random.choice((0.05, 0.3, 1, 3))) for act, name in acts]
        self.expiries = 8

    def _step(self) -> None:
        holder = any(actor.in_transaction for actor in self.actors)
        ready = [actor for actor in self.actors if actor.in_transaction or not (holder and actor.next_step == "write")]
        weights = [actor.weight for actor in ready]
        if self.expiries and self.random.random() < 0.04:
            self.expiries -= 1
            self._expire()
        elif self.holds and self.random.random() < 0.05:
            self.holds -= 1
            self.held ^= {self.random.choice(list(self.videos))}
        elif not holder and self.setbacks.act():
            pass
        else:
            actor = self.random.choices(ready, weights)[0]
            if self.random.random() < 0.03:
                actor.weight = self.random.choice((0.01, 0.3, 3))  # stalls and bursts
            if actor.name == "flusher" and self.random.random() < 0.015:
                actor.kill()
            else:
                actor.turn()
            if actor.finished:
                self.actors.remove(actor)
        for video, seen in self.watched:
            seen.append(self.truth(video))

    # What the actors do

    def _choose(self, actor: Actor) -> tuple[int, int]:
        while not (free := [user for user in self.users if user not in self.busy_users]):
            actor.gate("begin")  # a user sends one request after the other
        return self.random.choice(list(self.videos)), self.random.choice(free)

    def _until_answered(self, act: Callable[[], Any]) -> Any:
        """Repeat a request that finds another meeting at each of its tries, until it is answered."""
        while True:
            with contextlib.suppress(services.Unavailable):
                return act()

    def _like(self, actor: Actor) -> None:
        for _ in range(8):
            video, user = self._choose(actor)
            wish = wish_of(self.random.random())
            self.busy[video] += 1
            self._set_mark(video, user, wish)
            self.busy[video] -= 1
            actor.gate("begin")

    def _set_mark(self, video: int, user: int, wish: int) -> None:
        self.busy_users.add(user)
        like = self._until_answered(lambda: services.set_mark(video_id=video, user_id=user, value=wish))
        self.wish[video, user] = wish
        self.setbacks.note_wish(video, user, wish, stored=like.stored)
        self.busy_users.discard(user)

    def _view(self, actor: Actor) -> None:
        for _ in range(8):
            video = self.random.choice(list(self.videos))
            self.busy[video] += 1
            event = self._event_of(video)
            view = self._until_answered(partial(services.record_view, event=event))
            self.viewed[video] += view.counted
            self.setbacks.newer_views[video] += view.counted
            self.setbacks.viewed_ever[video] += view.counted
            self.busy[video] -= 1
            actor.gate("begin")

    def _event_of(self, video: int) -> services.ViewEvent:
        return services.ViewEvent(video, f"viewer{next(self.viewers)}", watched=WATCHED)

    def _write_without_redis(self, actor: Actor) -> None:
        actor.without_redis = True
        for _ in range(8):
            video, user = self._choose(actor)
            wish = self.random.choice((None, LIKE, DISLIKE if len(self.written_away) % 2 else NOTHING))
            if wish is None:
                services.record_view(event=self._event_of(video))
                self.viewed[video] += 1
            else:
                self._set_mark(video, user, wish)
            self.written_away.append((video, wish is None))
            actor.gate("begin")

    def _read(self, actor: Actor) -> None:
        for _ in range(8):
            video = self.random.choice(list(self.videos))
            watch = (video, [self.truth(video)])
            self.watched.append(watch)
            self.busy[video] += 1
            count = services.read_counts(video_ids=[video], user_id=None).by_video[video]
            self.busy[video] -= 1
            self.watched = [other for other in self.watched if other is not watch]
            self.faults["reader watched"] += count.totals.watched != count.totals.views * WATCHED_SECONDS
            # What was written without Redis shows with a later flush.
            late = [is_view for on, is_view in self.written_away if on == video]
            if self.setbacks.stores:
                continue  # after a set-back numbers may be low until the next flush
            if all(late):
                self.faults["reader likes"] += _marks(count.totals) not in {_marks(seen) for seen in watch[1]}
            missing = [seen.views - count.totals.views for seen in watch[1]]
            self.faults["reader views"] += not any(0 <= views <= sum(late) for views in missing)
            actor.gate("begin")

    def _flush(self, actor: Actor) -> None:
        for _ in range(3):
            report = flush.run_flush()
            self.faults["failed"] += report.failed and not self.setbacks.stores
            actor.gate("begin")

    def _expire(self) -> None:
        """Keys expire, live also while something is pending, but not under a request: they last far longer than one."""
        for video in self.videos:
            if self.busy[video]:
                continue
            live = f"{{videos:{counters.shard_of(video)}}}:live:{video}"
            if self.random.random() < 0.5:
                self.client.delete(live)
            for user in self.users if not self.away else ():
                if self.random.random() < 0.3:
                    self.client.hdel(live, "unmarked_until")  # it ends before the first of these keys may go
                    self.client.delete(live.replace(":live:", ":liked:") + f":{user}")

    def _judge(self) -> None:
        self.setbacks.judge()
        live = counters.lookup(self.videos, None)
        for video in self.videos:
            right = self.truth(video)
            row = Video.objects.get(pk=video)
            marks = dict(VideoLike.objects.filter(video=video).values_list("user_id", "value"))
            self.faults["views"] += row.view_count != right.views
            self.faults["watched"] += row.watch_seconds != right.watched
            self.faults["likes"] += _marks(row.totals) != _marks(right)
            counted = Counter(marks.values())
            self.faults["count against rows"] += _marks(row.totals) != (counted[LIKE], counted[DISLIKE])
            wished = {user: wish for (on, user), wish in self.wish.items() if on == video and wish}
            self.faults["last wish"] += marks != wished
            primed = self.client.hget(f"{{videos:{counters.shard_of(video)}}}:live:{video}", "primed")
            # A live key that was made from the row and not flushed since goes within minutes.
            if live[video].totals is not None and not (primed and self.setbacks.stores):
                self.faults["live"] += live[video].totals != right
        if not self.setbacks.stores and not self.written_away:
            self._judge_batches()
        self.faults["trends"] += len(wrong_trends())
        self.faults["left over"] += sum(depth.pending + depth.claimed for depth in counters.depths())
        self.faults["notes"] += StaleLive.objects.count()
        self.faults = +self.faults

    def _judge_batches(self) -> None:
        """What the rows hold came by batches, whose rows say how much; hours too."""
        sums = FlushBatch.objects.aggregate(*map(Sum, (*SUM_COLUMNS, "fields", "taken")))
        for model, names in ((Video, COLUMNS), (VideoHour, Totals._fields)):
            rows = model.objects.aggregate(*map(Sum, names))
            self.faults["sums of batches"] += [rows[f"{name}__sum"] or 0 for name in names] != gained(sums)
        self.faults["site"] += len(wrong_site_hours())
        self.faults["unfinished"] += FlushBatch.objects.filter(finished_at=None).count()
        self.faults["fields"] += sums["fields__sum"] != sums["taken__sum"]


def gained(sums: Mapping[str, int | None]) -> list[int]:
    """What batches add to each of COUNTS, by the sums of their columns."""
    of = Counter({name.removesuffix("__sum"): total or 0 for name, total in sums.items()})
    marks = {count.name for count in MARKS}
    names = Totals._fields
    return [of[f"{name}_added"] - of[f"{name}_removed"] if name in marks else of[name] for name in names]


def _marks(totals: Totals) -> tuple[int, int]:
    return totals.likes, totals.dislikes


def worlds(
    count: int, seed: int, client: redis.Redis, *, away: bool = False, stores: Sequence[str] = ()
) -> Iterator[tuple[int, Counter[str]]]:
    """Run `count` random orders and yield each one's seed and faults. `stores` are set back: "redis", "database".

    With `away` each order has two writers that cannot reach Redis, and four flushers. Each begins with empty servers,
    so its seed alone replays it.
    """
    videos, users = make_videos(VIDEOS), make_users(USERS)
    for number in range(seed, seed + count):
        client.flushdb()
        World.redis_run += 1
        for model in (
            *(VideoLike, VideoHour, SiteHour, TrendingVideo, FlushBatch, StaleLive, Meeting, CountersIdentity),
        ):
            model.objects.all().delete()
        Video.objects.update(**dict.fromkeys((*COLUMNS, "flushed_batch"), 0))
        meeting._pair()  # they know each other: a database that is set back to before that is not in these orders
        yield number, World(number, videos, users, client, away=away, stores=stores).run()
