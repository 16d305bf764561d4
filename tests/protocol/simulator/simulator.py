"""Sets the app up for simulated runs, and makes the runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User

from servers import RedisServer
from tests.protocol.simulator import stores
from tests.protocol.simulator.book import sums_of_batches
from tests.protocol.simulator.clock import Clock
from tests.protocol.simulator.network import Line
from tests.protocol.simulator.process import STATE, Machine, Worker, gated, running
from tests.protocol.simulator.world import USERS, VIDEOS, Kind, World
from videos import counters, ledger
from videos.conf import conf
from videos.counters import connection as wire
from videos.counters import scripts
from videos.flush import workers
from videos.ledger import reads, sql
from videos.models import Video

OWNER = 10
GATES = (
    (ledger, "read", ("newest_batches", "shards_with_notes", "stale_videos", "compare_batches")),
    (reads, "read", ("read_counts", "read_facts", "read_facts_and_state")),
    (ledger, "write", ("open_batch", "finish_batch", "apply", "write_direct", "settle", "meet", "end_forgotten")),
    (ledger, "write", ("note_doubts", "note_stale", "prune", "recount")),
)
DRAWN = Kind()


class Simulator:
    """Runs worlds on servers that stay."""

    def __init__(self, server: RedisServer, clock: Clock, patch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.world: World | None = None
        self.real: Any = redis.Redis(
            unix_socket_path=str(server.folder / "socket"), protocol=2
        ).connection_pool.make_connection()
        self.real.connect()  # type: ignore[no-untyped-call]
        self.crew = [Worker() for _ in range(14)]
        self._install(patch)
        User.objects.bulk_create(User(pk=pk, username=f"user{pk}") for pk in (OWNER, *USERS))
        Video.objects.bulk_create(
            Video(pk=pk, title="one", url="https://example.com/v", owner_id=OWNER) for pk in VIDEOS
        )
        self.pristine = stores.read_rows()

    def close(self) -> None:
        """End the threads."""
        for worker in self.crew:
            worker.end()
        wire._leases.request = wire._leases.flush = None
        self.real.disconnect()

    def run(self, seed: int, kind: Kind = DRAWN) -> World:
        """Make the run of a seed. Its faults are those of its book."""
        stores.write_rows(self.pristine)
        for command in (("FLUSHALL", "SYNC"), *(("SCRIPT", "LOAD", text) for text in scripts.TEXT_OF.values())):
            self.real.send_command(*command)
            self.real.read_response()
        self.clock.begin(seed)
        Machine("test").enter()
        wire._leases.request = wire._leases.flush = None
        self.world = World(seed, kind, self.clock, self.real, self.crew)
        vars(conf).update(SHARDS=self.world.shards, FLUSH_CHUNK_FIELDS=self.world.chunk, FLUSH_THREADS=1)
        self.world.run()
        return self.world

    def _install(self, patch: pytest.MonkeyPatch) -> None:
        def wall_ahead_us() -> int:
            process = running()
            return 0 if process is None else process.machine.wall_ahead_us

        for module, name in STATE:  # what a run leaves there ends with the test
            patch.setattr(module, name, getattr(module, name))
        self.clock.install(patch, wall_ahead_us, lambda seconds: self._now().sleep(seconds))
        patch.setattr(wire, "make_connection", lambda *, for_flush: Line(self._now().network, for_flush=for_flush))
        self._tell_the_book(patch)
        for module, step, names in GATES:
            for name in names:
                patch.setattr(module, name, gated(step, getattr(module, name)))
        lock_free = sql.lock_free_videos

        def lock_unheld(video_ids: Iterable[int]) -> tuple[dict[int, Any], dict[int, int]]:
            held = self._now().held
            free, locked = lock_free(set(video_ids) - held)
            return free, locked | sql.watermarks(held.intersection(video_ids))

        patch.setattr(sql, "lock_free_videos", lock_unheld)
        patch.setattr(counters.Batch, "make_durable", lambda batch: None)  # Redis executes and syncs at once
        patch.setattr(counters, "memory_share", lambda: 0.0)
        patch.setattr(conf, "ANONYMOUS_MEMORY_SHARE", 1)  # an INFO never says the same twice
        patch.setattr(workers, "POSTPONED_SECONDS", 0.0)

    def _now(self) -> World:
        """The world that runs."""
        assert self.world is not None
        return self.world

    def _tell_the_book(self, patch: pytest.MonkeyPatch) -> None:
        """Let the book know what is committed to the rows."""
        write_direct, meet, prune = ledger.write_direct, ledger.meet, ledger.prune

        def noted_write(changes: Any) -> Any:
            outcomes, process = write_direct(changes), running()
            self._now().book.written(changes, outcomes, {} if process is None else process.viewers)
            return outcomes

        def noted_meet(run: str, known: Any, **kwargs: Any) -> Any:
            met = meet(run, known, **kwargs)
            if run == f"run{self._now().network.run}":
                waiting = stores.read_waiting(self._now().network)
                self._now().book.met({shard: one[0] for shard, one in known.items()}, waiting)
            return met

        def noted_prune(**kwargs: Any) -> None:
            before = sums_of_batches()
            prune(**kwargs)
            self._now().book.pruned += before - sums_of_batches()

        patch.setattr(ledger, "write_direct", noted_write)
        patch.setattr(ledger, "meet", noted_meet)
        patch.setattr(ledger, "prune", noted_prune)
