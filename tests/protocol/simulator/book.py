"""What the simulator knows of a run: what happened in the stores, what clients were told, what must hold at the end.

An effect is a wish or a view that a store has taken: a script that acted, or a commit without Redis. At the end the
rows hold all effects. A store that was set back may have lost some: the book knows which, or it knows that it does not.

Over 250 lines: what is noted of a run and what is judged by it share one state.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django.db.models import Sum

from tests.protocol.simulator.clock import SECOND_US, Clock
from tests.protocol.simulator.network import Command
from tests.support.factories import WATCHED_SECONDS
from tests.support.interleaving import gained
from tests.support.trends import wrong_trends
from videos import counters, flush
from videos.changes import DISLIKE, LIKE, NOTHING, SUM_COLUMNS, Changes, Totals, zeros
from videos.conf import conf
from videos.counters import scripts
from videos.ledger import Outcome
from videos.models import FlushBatch, StaleLive, Video, VideoHour, VideoLike

Mark = tuple[int, int]  # a video and a user
View = tuple[int, str]  # a video and a viewer


class Effect(NamedTuple):
    """A wish that a store has taken."""

    value: int  # of the mark
    at_ms: int
    stored: bool  # written to the rows, because Redis did not answer


class RedisKnows(NamedTuple):
    """How many effects a state of Redis has."""

    wishes: dict[Mark, int]
    views: Counter[int]


class RowsKnow(NamedTuple):
    """How many effects a state of the database has that came without Redis, and when it was that state."""

    wishes: dict[Mark, int]
    views: Counter[int]
    at_us: int


def sums_of_batches() -> Counter[str]:
    """What the rows of batches say that they moved."""
    names = (*SUM_COLUMNS, "fields", "taken")
    return Counter(FlushBatch.objects.aggregate(**{name: Sum(name, default=0) for name in names}))


class Book:
    """The effects of one run, and its faults."""

    def __init__(self, clock: Clock, trace: list[tuple[Any, ...]]) -> None:
        self.clock = clock
        self.trace = trace
        self.faults: Counter[str] = Counter()
        self.wishes: dict[Mark, list[Effect]] = defaultdict(list)
        self.told: dict[Mark, int] = {}  # the last wish that was acknowledged
        self.untold: dict[Mark, set[int]] = defaultdict(set)  # wishes since, of which the client was told nothing
        self.unordered: set[Mark] = set()  # a clock was set, so that a later wish has an earlier time
        self.views_by_redis: Counter[int] = Counter()
        self.views_by_rows: Counter[int] = Counter()
        self.counted: dict[View, list[tuple[int, bool, int]]] = defaultdict(list)  # when, without Redis, its request
        self.requests: Counter[View] = Counter()
        self.viewed_ever: Counter[int] = Counter()
        self.gone_users: set[int] = set()
        self.pruned: Counter[str] = Counter()  # sums of batches whose rows were old
        # Of stores that were set back:
        self.setbacks = 0
        self.vague = False  # more was set back than can be told exactly
        self.damaged: set[int] = set()  # videos that lost what was written without Redis
        self.in_rows: dict[Mark, int] = {}  # how many effects there were when the last went to the rows
        self.at_claim: dict[tuple[int, int], dict[Mark, int]] = {}  # how many of them a batch, by shard and number, has
        self.redis_knows: RedisKnows | None = None  # until the next meeting
        # Redis came back with an older wish than one that the rows got without it, and the note of that is settled.
        self.unguarded: set[Mark] = set()
        self.since_setback: set[Mark] = set()  # wishes of which no store may know less than the clients
        self.unnoticed: set[int] = (
            set()
        )  # shards whose rows lost more than is kept; Redis answers from memory until then
        self.views_since_setback: Counter[int] = Counter()

    def truth(self, video: int) -> Totals:
        """Totals, by the effects."""
        marks = Counter(made[-1].value for (on, _), made in self.wishes.items() if on == video and made)
        views = self.views_by_redis[video] + self.views_by_rows[video]
        return Totals(marks[LIKE], views, views * WATCHED_SECONDS, marks[DISLIKE])

    def fault(self, name: str, found: float, what: Any = "") -> None:
        """Count a fault if there is one."""
        if found:
            self.faults[name] += int(found)
            self.trace.append((self.clock.now_us, "FAULT", f"{name} {what}"))

    # What happens

    def executed(self, command: Command, reply: Any) -> None:
        """Redis has executed a command."""
        if command[0] != b"EVALSHA" or isinstance(reply, Exception):
            return
        sha, args = command[1].decode(), command[3 + int(command[2]) :]
        if sha == scripts.LIKE.sha and reply[0] >= 0:
            _, video, user = map(int, args[0].replace(b"l:", b"0:").split(b":"))
            self._wish((video, user), Effect(int(args[1]), int(args[2] or self.clock.redis_us // 1000), stored=False))
        elif sha == scripts.VIEW.sha:
            for place, code in enumerate(reply[::2]):
                if code == 0:
                    viewer = command[4 + 3 + int(args[7]) * place].decode().rpartition(":")[2]
                    self._view((int(args[9 + 6 * place]), viewer), 1, stored=False)
        elif sha == scripts.CLAIM.sha and reply[0]:
            claim = int(command[3].split(b"}")[0].rpartition(b":")[2]), reply[0]
            if reply[4] == int(args[3]) or claim not in self.at_claim:  # a number that both have forgotten comes again
                self.at_claim[claim] = self._lengths()
        elif sha == scripts.DROP.sha and args[1] == b"1":
            self._noticed(int(command[3].split(b"}")[0].rpartition(b":")[2]))

    def _noticed(self, shard: int) -> None:
        """A flush made what Redis remembers of a shard invalid: a wish that was answered from memory may be lost."""
        if shard in self.unnoticed:
            self.unnoticed.remove(shard)
            self.since_setback = {mark for mark in self.since_setback if counters.shard_of(mark[0]) != shard}

    def written(
        self, changes: Mapping[int, Changes], outcomes: Mapping[int, Outcome], viewers: Mapping[int, str]
    ) -> None:
        """The rows have taken changes without Redis."""
        for video, change in changes.items():
            if outcomes[video].totals is None:
                continue
            for mark in change.marks:
                if mark.user_id not in outcomes[video].dropped:
                    self._wish((video, mark.user_id), Effect(mark.value, mark.at_ms, stored=True))
            for tally in change.tallies:
                if tally.name == "views":
                    self._view((video, viewers.get(video, "")), tally.amount, stored=True)

    def _wish(self, mark: Mark, effect: Effect) -> None:
        made = self.wishes[mark]
        if made and effect.at_ms <= max(one.at_ms for one in made):
            self.unordered.add(mark)
        else:
            self.unordered.discard(mark)
        made.append(effect)
        self.unguarded.discard(mark)
        if effect.stored:
            self.in_rows[mark] = len(made)
        self.since_setback.add(mark)

    def _view(self, view: View, amount: int, *, stored: bool) -> None:
        video = view[0]
        (self.views_by_rows if stored else self.views_by_redis)[video] += amount
        self.viewed_ever[video] += amount
        self.views_since_setback[video] += amount
        now, request = self.clock.redis_us, self.requests[view]
        for at_us, was_stored, of_request in self.counted[view]:
            within = abs(now - at_us) < conf.VIEW_WINDOW_SECONDS * SECOND_US and not self.setbacks
            known = not (stored or was_stored) or request == of_request
            self.fault("view counted twice", within and known, view)
        self.counted[view].append((now, stored, request))

    # What clients are told

    def asked(self, mark: Mark, value: int) -> None:
        self.untold[mark].add(value)

    def answered(self, mark: Mark, value: int) -> None:
        self.told[mark] = value
        self.untold[mark].clear()

    def seen(self, view: View) -> None:
        """A client was told that its view counts, or has counted before."""
        self.fault("view not counted", not self.counted[view] and not self.setbacks)

    # Stores that are set back

    def state_of_redis(self) -> RedisKnows:
        return self.redis_knows or RedisKnows(self._lengths(), Counter(self.views_by_redis))

    def state_of_rows(self) -> RowsKnow:
        return RowsKnow(dict(self.in_rows), Counter(self.views_by_rows), self.clock.now_us)

    def redis_set_back(self, to: RedisKnows) -> None:
        self._set_back()
        self.redis_knows = to

    def rows_set_back(self, to: RowsKnow) -> None:
        self._set_back()
        if self.clock.now_us - to.at_us > conf.REPLAY_SECONDS * SECOND_US:
            self.vague = True
            self.unnoticed = set(range(conf.SHARDS))
        self.damaged |= {video for (video, user), at in self.in_rows.items() if to.wishes.get((video, user)) != at}
        self.damaged |= {video for video, views in self.views_by_rows.items() if to.views[video] != views}
        self.in_rows, self.views_by_rows = dict(to.wishes), Counter(to.views)

    def _set_back(self) -> None:
        self.setbacks += 1
        self.since_setback.clear()
        self.views_since_setback.clear()

    def met(self, lasts: Mapping[int, int], waiting: Mapping[Mark, int]) -> None:
        """A new run of Redis met the database: from now on they know together what either knows, and nothing else.

        `lasts` has the newest batch that Redis knows, by shard. An unfinished newer one gets what is pending. `waiting`
        has the times of the wishes that wait in Redis for a batch.
        """
        if self.redis_knows is None:
            return
        knows, self.redis_knows = self.redis_knows, None
        batches = list(FlushBatch.objects.order_by("number").values_list("shard", "number", "finished_at", "postponed"))
        covering: dict[int, int] = {}  # video -> its shard's newest finished batch that has not postponed it
        for shard, number, finished_at, postponed in batches:
            if finished_at is not None:
                known_of = (video for video, _ in self.wishes if counters.shard_of(video) == shard)
                covering |= {video: number for video in known_of if video not in (postponed or ())}
        rows = {row.pk: row for row in Video.objects.all()}
        for video, row in rows.items():
            by_redis = row.view_count - self.views_by_rows[video]
            self.views_by_redis[video] = max(knows.views[video], by_redis)
        for mark, made in self.wishes.items():
            if mark[0] not in rows:
                continue
            shard = counters.shard_of(mark[0])
            numbers = rows[mark[0]].flushed_batch, covering.get(mark[0], 0)
            known = [self.at_claim.get((shard, number), {}) for number in numbers]
            keep = max(*(one.get(mark, 0) for one in (knows.wishes, *known, self.in_rows)))
            del made[keep:]
            at_ms, is_covered = waiting.get(mark), covering.get(mark[0], 0) > lasts.get(shard, 0)
            if at_ms is not None and not is_covered and any(one.stored and one.at_ms >= at_ms for one in made):
                notes = StaleLive.objects.filter(video_id=mark[0], user=mark[1], written_ms__gte=at_ms)
                self.unguarded |= set() if notes.exists() else {mark}
        for shard, number, finished_at, _ in batches:
            if finished_at is None and number > lasts.get(shard, number):
                self.at_claim[shard, number] = self._lengths()

    def _lengths(self) -> dict[Mark, int]:
        return {mark: len(made) for mark, made in self.wishes.items()}

    # What must hold

    def judge(self, live: Mapping[int, counters.Live], primed: set[int]) -> None:
        """Compare the rows and Redis with the effects, when all is flushed."""
        rows = {row.pk: row for row in Video.objects.all()}
        marks = {(one.video_id, one.user_id): one.value for one in VideoLike.objects.all()}
        hours: dict[int, list[int]] = defaultdict(zeros)
        for video, *gains in VideoHour.objects.values_list("video_id", *Totals._fields):
            hours[video] = [sum(pair) for pair in zip(hours[video], gains, strict=True)]
        for video, row in rows.items():
            totals = row.totals
            views = self.truth(video).views
            counted = Counter(value for (on, _), value in marks.items() if on == video)
            self.fault("count against rows", (totals.likes, totals.dislikes) != (counted[LIKE], counted[DISLIKE]))
            self.fault("hours", tuple(hours[video]) != totals)
            self.fault("watched", row.watch_seconds != row.view_count * WATCHED_SECONDS)
            if self.vague:
                self.fault("views", not self.views_since_setback[video] <= row.view_count <= self.viewed_ever[video])
            elif video not in self.damaged:
                self.fault("views", row.view_count != views)
            shown = live[video].totals if video in live else None
            # A live key that was made from the row and not flushed since goes within minutes.
            if shown is not None and video not in self.damaged and not (video in primed and self.setbacks):
                self.fault("live", shown != totals)
        for mark, made in self.wishes.items():
            video, user = mark
            if video in rows and user not in self.gone_users and made:
                self._judge_mark(mark, made[-1].value, stored=marks.get(mark, NOTHING))
        self.fault("trends", bool(wrong_trends()))
        if not (self.setbacks or self.in_rows or self.views_by_rows or self.gone_users or len(rows) < len(live)):
            self._judge_batches(rows.values())
        self.fault("left over", sum(depth.pending + depth.claimed + depth.rejected for depth in counters.depths()))
        self.fault("notes", StaleLive.objects.count())
        self.fault("reconcile", len(flush.reconcile().differences))

    def _judge_mark(self, mark: Mark, last: int, *, stored: int) -> None:
        if mark in self.unordered | self.unguarded or (self.vague and mark not in self.since_setback):
            return
        if not self.setbacks:
            self.fault("last answer", mark in self.told and last not in {self.told[mark], *self.untold[mark]})
        if mark[0] not in self.damaged:
            self.fault("last wish", stored != last)

    def _judge_batches(self, rows: Iterable[Video]) -> None:
        """What the rows hold came by batches, whose rows say how much."""
        sums = sums_of_batches() + self.pruned
        totals = [sum(column) for column in zip(*(row.totals for row in rows), strict=True)]
        self.fault("sums of batches", totals != gained(sums))
        self.fault("unfinished batches", FlushBatch.objects.filter(finished_at=None).count())
        self.fault("fields of batches", sums["fields"] != sums["taken"])
