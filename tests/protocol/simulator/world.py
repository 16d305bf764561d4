"""A run of the simulator: processes of the real code take steps in random order, while clocks, network and stores fail.

A step is one script or one transaction. One seed makes one run: all that is random comes from it.

Over 250 lines: all that may happen in a run draws from one source of chance.
"""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.protocol.simulator import stores
from tests.protocol.simulator.acts import Acts
from tests.protocol.simulator.book import Book
from tests.protocol.simulator.clock import SECOND_US, Clock
from tests.protocol.simulator.network import Network
from tests.protocol.simulator.process import Machine, Process, Worker, running
from videos import counters, flush, ledger

VIDEOS, USERS = (1, 2, 3), (11, 12, 13)
LEAPS_SECONDS = (5, 70, 310, 700, 1000, 1900, 4000, 90_000, 700_000)
JUMPS_SECONDS = (2, 60, 3600, 20_000)


@dataclass(frozen=True)
class Kind:
    """What happens in a run. Each of it is drawn from the seed, unless it is given."""

    faulty: bool | None = None  # network
    stores: Sequence[str] | None = None  # that are set back: "redis", "database"
    jumps: bool | None = None  # of clocks
    deletions: bool | None = None
    away: bool = False  # two processes never reach Redis
    tight: bool = False  # one shard, two videos, chunks of one field, four flushers, twice as many requests


class World:
    """One run."""

    def __init__(self, seed: int, kind: Kind, clock: Clock, real: Any, crew: Sequence[Worker]) -> None:
        choose = self.random = Random(seed)
        self.clock = clock
        self.trace: list[tuple[Any, ...]] = []
        self.book = Book(clock, self.trace)
        self.network = Network(clock, real, choose, self.trace, self.book.executed)
        stores = choose.choice(((), (), ("database",), ("redis",), ("database", "redis")))
        self.stores = stores if kind.stores is None else kind.stores
        faulty, jumps, deletions = choose.random() < 0.6, choose.random() < 0.3, choose.random() < 0.2
        faulty = faulty if kind.faulty is None else kind.faulty
        self.jumps = jumps if kind.jumps is None else kind.jumps
        self.deletions = deletions if kind.deletions is None else kind.deletions
        self.faulty = faulty
        self.network.faults = choose.choice((0.01, 0.05)) if faulty else 0.0
        self.deletions = self.deletions and "database" not in self.stores
        self.shards = 1 if kind.tight else choose.choice((1, 1, 2, 3))
        self.chunk = 1 if kind.tight else choose.choice((1, 1, 2, 1000))
        self.videos = VIDEOS[: 2 if kind.tight else choose.choice((1, 2, 3))]
        users = USERS[: choose.choice((1, 2, 3))]
        self.acts = Acts(
            choose,
            clock,
            self.book,
            videos=self.videos,
            users=users,
            deletions=self.deletions,
            rounds=8 if kind.tight else 4,
        )
        self.marks: dict[str, Any] = {}
        self.left = Counter({store: choose.choice((1, 2, 4)) for store in self.stores})
        self.held: set[int] = set()  # videos whose rows another session has locked
        self.left.update(
            hold=choose.choice((0, 0, 4, 12)),
            leap=choose.choice((0, 2, 6)),
            expire=6,
            jump=4,
            outage=choose.choice((1, 3)),
        )
        self.machines: dict[str, Machine] = {}
        self.processes: list[Process] = []
        self._cast(kind, crew)

    def _cast(self, kind: Kind, crew: Sequence[Worker]) -> None:
        choose = self.random
        acts: list[tuple[Callable[[Process], None], str]] = [(self.acts.like, "liker"), (self.acts.view, "viewer")] * 2
        acts.append((self.acts.read, "reader"))
        acts += [(self.acts.flush, "flusher")] * (
            4 if kind.away else choose.choice((1, 2, 3, 4) if kind.tight else (1, 2, 3))
        )
        acts += [(self.acts.write_without_redis, "away")] * (
            2 if kind.away else 0 if self.stores else choose.choice((0, 0, 1))
        )
        if choose.random() < 0.2:
            acts.append((self.acts.reconcile, "reconcile"))
        if self.deletions:
            acts.append((self.acts.delete, "admin"))
        web = [Machine("web0"), Machine("web1")]
        for number, ((act, name), worker) in enumerate(zip(acts, crew, strict=False)):
            machine = web[number % 2] if number < len(web) * 2 + 1 else Machine(f"{name}{number}")
            self.machines[machine.name] = machine
            self.processes.append(Process(f"{name}{number}", machine, act, worker, choose.choice((0.05, 0.3, 1, 3))))

    # The order of steps

    def run(self) -> Counter[str]:
        """Take all steps, drain, and count what is wrong."""
        try:
            if self.stores:  # a store that is set back to before they first met needs adopt_counters
                counters.lookup(VIDEOS, None)
            while self.processes:
                self._step()
            if not self.book.faults:
                self._drain()
        except Exception as error:  # noqa: BLE001  what no request may raise
            self.book.fault(f"raised {type(error).__name__}", 1, "".join(traceback.format_exception(error)))
        finally:
            for process in self.processes:
                if not process.finished:  # one that raised has finished, and is still among them
                    with contextlib.suppress(Exception):
                        process.kill()
        return self.book.faults

    def _event(self, what: str) -> None:
        self.trace.append((self.clock.now_us, "world", what))

    def _drain(self) -> None:
        for store in self.stores:
            if store in self.marks and self.random.random() < 0.3:
                self._set_back(store)
        self.network.down_until_us = 0
        self.held.clear()
        report = None
        for again in range(8):
            self.clock.advance(61 * SECOND_US)
            while self.network.late and (again > 2 or self.random.random() < 0.5):
                self.network.deliver(self.network.late[0])
            report = flush.run_flush()
            if not (
                report.fields
                or report.notes
                or report.replayed
                or report.failures
                or report.postponed
                or self.network.late
                or ledger.note_total()
            ):
                break
        else:
            self.book.fault("flush fails", 1, report)
        self.clock.advance(61 * SECOND_US)
        live = counters.lookup(VIDEOS, None)
        names = [f"{{videos:{counters.shard_of(video)}}}:live:{video}" for video in VIDEOS]
        primed = {video for video, name in zip(VIDEOS, names, strict=True) if self.network.ask("HGET", name, "primed")}
        self.book.judge(live, primed)

    def sleep(self, seconds: float) -> None:
        """Sleep, as a process or as the test."""
        process, until_us = running(), self.clock.now_us + int(seconds * SECOND_US)
        if process is None:
            self.clock.advance(int(seconds * SECOND_US))
        else:
            process.gate("sleep", awake_at_us=until_us)

    def _step(self) -> None:
        self.clock.advance(self.random.choice((1000, 1000, 2000, 10_000)))
        holder = any(process.in_transaction for process in self.processes)
        if not self._happens(holder=holder):
            self._turn(holder=holder)
        for video, seen in self.acts.watched:
            seen.append(self.book.truth(video))

    def _turn(self, *, holder: bool) -> None:
        free = [
            process for process in self.processes if process.in_transaction or not (holder and process.step == "write")
        ]
        ready = [process for process in free if process.awake_at_us <= self.clock.now_us]
        if not ready:
            self.clock.advance(min(process.awake_at_us for process in free) - self.clock.now_us)
            return
        process = self.random.choices(ready, [process.weight for process in ready])[0]
        if self.random.random() < 0.03:
            process.weight = self.random.choice((0.01, 0.3, 3))  # stalls and bursts
        if self.random.random() < (0.015 if process.name.startswith("flusher") else 0.002):
            self.trace.append((self.clock.now_us, process.name, "killed"))
            process.kill()
        else:
            self.trace.append((self.clock.now_us, process.name, process.step))
            process.turn()
        if process.finished:
            self.processes.remove(process)

    def _happens(self, *, holder: bool) -> bool:
        """Perhaps let something happen that no process does."""
        due = [packet for packet in self.network.late if packet.due_us <= self.clock.now_us]
        if due and self.random.random() < 0.3:
            self.network.deliver(due[0])
            return True
        if self.random.random() > 0.12:
            return False
        calm = not any(process.in_request for process in self.processes)
        what = self.random.choice(("store", "expire", "leap", "jump", "outage", "hold"))
        if what == "store":
            return not holder and len(self.stores) > 0 and self._touch(self.random.choice(self.stores))
        never = (what == "jump" and not self.jumps) or (what == "outage" and not self.faulty)
        if never or self.left[what] <= 0 or (what in {"expire", "leap"} and not calm):
            return False
        self.left[what] -= 1
        getattr(self, f"_{what}")()
        return True

    def _touch(self, store: str) -> bool:
        """Mark a store, or set it back to its mark."""
        if store not in self.marks:
            state = stores.read_keys(self.network) if store == "redis" else stores.read_rows()
            known = self.book.state_of_redis() if store == "redis" else self.book.state_of_rows()
            self.marks[store] = state, known
            self._event(f"mark {store}")
        elif self.left[store] > 0:
            self.left[store] -= 1
            self._set_back(store)
        return True

    def _set_back(self, store: str) -> None:
        state, known = self.marks.pop(store)
        self._event(f"set back {store}")
        self.book.vague = self.book.vague or len(self.stores) > 1 or (self.jumps and store == "database")
        if store == "database":
            stores.write_rows(state)
            self.book.rows_set_back(known)
            return
        if self.random.random() < 0.15:
            state, known = [], type(known)({}, Counter())
            self._event("empty redis")
        stores.write_keys(self.network, state)
        if self.random.random() < 0.3:
            self.network.ask("SCRIPT", "FLUSH")
        self.network.late.clear()
        self.network.run += 1
        self.book.redis_set_back(known)

    def _expire(self) -> None:
        """Keys may go earlier, as in a Redis that was emptied."""
        for video in self.videos:
            live = f"{{videos:{counters.shard_of(video)}}}:live:{video}"
            if self.random.random() < 0.3 and not self.deletions:  # what forget.lua left must stay
                self._event(f"expire {live}")
                self.network.ask("DEL", live)

    def _leap(self) -> None:
        seconds = self.random.choice(LEAPS_SECONDS)
        self._event(f"{seconds} s pass")
        self.clock.advance(seconds * SECOND_US)

    def _jump(self) -> None:
        """Somebody sets a clock."""
        us = self.random.choice(JUMPS_SECONDS) * SECOND_US * self.random.choice((1, -1))
        machine = self.random.choice([None, *self.machines.values()])
        self._event(f"clock of {machine.name if machine else 'redis'} set by {us / SECOND_US:.0f} s")
        if machine is not None:
            machine.wall_ahead_us += us
            return
        self.clock.redis_ahead_us += us
        self.clock.advance(0)
        self.network.late.clear()  # their deadlines would be over only later

    def _hold(self) -> None:
        """Another session locks a video's row, or lets it go."""
        video = self.random.choice(self.videos)
        self.held ^= {video}
        self._event(f"row {video} {'held' if video in self.held else 'free'}")

    def _outage(self) -> None:
        until_us = self.clock.now_us + int(self.random.choice((0.5, 3, 30)) * SECOND_US)
        machine = self.random.choice([None, *self.machines.values()])
        self._event(f"redis away from {machine.name if machine else 'all'}")
        if machine is None:
            self.network.down_until_us = until_us
        else:
            machine.cut_off_until_us = until_us
