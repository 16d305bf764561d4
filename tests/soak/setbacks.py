"""Set-backs: script/soak setbacks [--database N] [--redis N] [--both N] [--on PAIR] [--seed N] [--to DIR]

The service runs under load all the time. Meanwhile an older database is put beside the Redis of now (N times), an older
Redis beside the database of now, or both are older: each on private servers, where load and flushes go on and an audit
compares what both knew with what they hold. A copy is between 1 s and 300 s old. Exits with 1 if anything is off.
"""

import argparse
import copy
import json
import os
import pickle
import random
import shutil
import signal
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from servers import ROOT
from servers.database import SMALL
from tests.soak.clients import Clients
from tests.soak.copies import KEPT_SECONDS, Copies, copy_database, copy_redis
from tests.soak.journal import Journal
from tests.soak.stack import Stack

KINDS: Final = ("database", "redis", "both")
USERS: Final = 150
VIDEOS: Final = 40  # so about 6,000 pairs
RATE: Final = 100.0  # requests a second
INTERVALS: Final = 30  # of the flush between the oldest copy and now
SHOW_SECONDS: Final = 10.0
SHARDS: Final = 2
# Few shards, so that a branch has few batches to replay; small chunks, so that copies fall between two of them; and no
# request gives up while a store stands still to be copied.
SETTINGS: Final = {
    "VIDEOS_SHARDS": SHARDS, "VIDEOS_FLUSH_CHUNK_FIELDS": 25, "VIDEOS_REPLAY_SECONDS": 600,
    "VIDEOS_DATABASE_WAIT_SECONDS": 10, "VIDEOS_REDIS_PAUSE_SECONDS": 0.05,
}  # fmt: skip
QUIET: Final = {"LOG_LEVEL": "CRITICAL"}  # of this process: that a store was set back is no news
VARIABLES: Final = {"BENCH_SETTINGS": json.dumps(SETTINGS), "REDIS_TIMEOUT_SECONDS": "10"}
DATABASE: Final = {key: value for key, value in SMALL.items() if key not in {"log_bin", "binlog_format", "sync_binlog"}}


def main(arguments: list[str]) -> int:
    """Run it all, return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser("script/soak setbacks", description=__doc__)
    parser.add_argument("--database", type=int, default=0, help="with an older database")
    parser.add_argument("--redis", type=int, default=0, help="with an older Redis")
    parser.add_argument("--both", type=int, default=0, help="with an older database and an older Redis")
    parser.add_argument("--on", choices=("sqlite", "mariadb", "mysql"), default="sqlite", help="default: sqlite")
    parser.add_argument("--oldest", type=float, default=KEPT_SECONDS, help="seconds of load before the first (300)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument(
        "--break", dest="broken", choices=("replay", "done", "meeting", "fence"), help="leave this rule out"
    )
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="where the report and failed cases go (var/setbacks-...)"
    )
    parser.add_argument("--again", type=Path, metavar="CASE", help="play a case that was kept once more (same --on)")
    options = parser.parse_args(arguments)
    to: Path = options.to or ROOT / "var" / f"setbacks-{time.strftime('%Y%m%d-%H%M%S')}-{options.seed}"
    with TemporaryDirectory(prefix="setbacks-", ignore_cleanup_errors=True) as name:
        every = max(1, round(options.oldest / INTERVALS))
        flushes = ("--every", str(every)), ("--every", str(2 * every), "--gently", str(every))
        stack = Stack(Path(name), options.on, flushes=flushes, database_options=DATABASE, variables=VARIABLES)
        if options.again:
            return play_again(options.again, stack, options.broken)
        with stack:
            result = Setbacks(stack, options, to).run()
    to.mkdir(parents=True, exist_ok=True)
    (to / "setbacks.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "ages"}), flush=True)
    print(f"Report: {to}", flush=True)
    return 1 if result["off"] else 0


class Setbacks:
    """The run: a service under load, copies of its stores, and what became of each pair of copies."""

    def __init__(self, stack: Stack, options: argparse.Namespace, to: Path) -> None:
        self.stack = stack
        self.options = options
        self.to = to
        self.counts: Counter[str] = Counter()
        self.off: list[str] = []
        self.ages: dict[str, list[float]] = {kind: [] for kind in KINDS}

    def run(self) -> dict[str, Any]:
        """Do all of it and tell what came of it."""
        stack, options = self.stack, self.options
        print(f"Set-backs on {options.on}, seed {options.seed}.", flush=True)
        os.environ |= stack.environment() | QUIET
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        from tests.soak.clients import fill
        from videos.models import FlushBatch

        call_command("migrate", verbosity=0)
        tokens, videos = fill(USERS, VIDEOS)
        call_command("flush_counters")  # so that every copy has met the other store
        connections.close_all()
        stack.start_service()
        assert stack.web is not None
        settings = {"port": stack.web.port, "videos": videos, "tokens": tokens, "seed": options.seed}
        clients = Clients(stack.folder, settings)
        clients.tell(do="arrive", rate=RATE, seconds=1e6)
        try:
            stack.wait_until(FlushBatch.objects.filter(number__gt=SHARDS).exists, what="flushes")
            connections.close_all()
            self._take_turns(list(tokens))
        finally:
            clients.kill()
        self.off += stack.unexpected
        return {
            "pair": options.on, "seed": options.seed, "off": self.off, **self.counts,
            "requests": self.journal.requests, "answers_other_than_200_or_from_rows": self.journal.other.total(),
            "ages": self.ages,
        }  # fmt: skip

    def _take_turns(self, users: list[int]) -> None:
        stack, options = self.stack, self.options
        self.database = Copies(stack.folder / "databases", partial(copy_database, stack))
        self.redis = Copies(stack.folder / "redises", partial(copy_redis, stack))
        begun = time.monotonic()
        while time.monotonic() < begun + options.oldest:
            self.database.take()
            self.redis.take()
            stack.pause(min(5.0, options.oldest / 5))
        self.journal = Journal(stack.folder / "requests")
        kinds = [kind for kind in KINDS for _ in range(getattr(options, kind))]
        random.Random(options.seed).shuffle(kinds)
        shown = time.monotonic()
        for number, kind in enumerate(kinds):
            self._take_turn(number, kind, users)
            if self.off or time.monotonic() > shown + SHOW_SECONDS or number == len(kinds) - 1:
                shown = time.monotonic()
                told = ", ".join(f"{name} {count:,}" for name, count in sorted(self.counts.items()))
                print(f"{shown - begun:6.0f} s  {number + 1} of {len(kinds)}: {told}, off {len(self.off)}", flush=True)

    def _take_turn(self, number: int, kind: str, users: list[int]) -> None:
        from tests.soak.branch import Branch, play

        self.stack.revive()
        choose = random.Random(f"{self.options.seed} {number}")
        database, redis = self.database.take(), self.redis.take()
        now, newest = redis.begun, (redis, database)
        oldest = min(KEPT_SECONDS, now - self.redis.kept[0].ended)
        ages = [choose.uniform(1, max(1.0, oldest)) for _ in KINDS]
        if kind != "redis":
            database = self.database.nearest(now - ages[0])
        if kind != "database":
            redis = self.redis.nearest(now - ages[1])
        branch = Branch(choose.randrange(10**9), kind, redis, database, newest)
        folder = self.stack.folder / "branch"
        folder.mkdir()
        try:
            play(
                branch, self.stack, folder, lambda seconds: self.journal.at(*redis[:2], told_seconds=seconds),
                users=users, broken=self.options.broken,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - the next branch is another
            branch.off.append("".join(traceback.format_exception(error)))
        shutil.rmtree(folder)
        self.journal.settle(self.redis.kept[0].begun)
        self.ages[kind].append(round(redis.begun - database.ended, 1))
        self.counts.update({kind: 1} | branch.counts)
        if branch.off:
            self._keep(number, branch, users)

    def _keep(self, number: int, branch: Any, users: list[int]) -> None:
        """Tell what is off, and keep both copies and the book."""
        from tests.soak.branch import Branch

        what = f"{branch.kind} {number}, {self.ages[branch.kind][-1]} s"
        self.off += [f"{what}: {one}" for one in branch.off]
        print("\n".join(f"  {what}: {one}" for one in branch.off[:10]), flush=True)
        kept = self.to / f"{branch.kind}-{number}"
        copies = {"redis": branch.redis, "database": branch.database}
        copies |= dict(zip(("newest-redis", "newest-database"), branch.newest, strict=True))
        moved = {}
        for name, one in copies.items():
            path = kept / name
            kept.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if one.path.is_dir() else shutil.copy)(one.path, path)
            moved[name] = one._replace(path=path.resolve())
        newest = moved["newest-redis"], moved["newest-database"]
        case = Branch(branch.seed, branch.kind, moved["redis"], moved["database"], newest)
        book = self.journal.at(*branch.redis[:2], told_seconds=0)
        (kept / "case.pickle").write_bytes(pickle.dumps((case, book, users)))


def play_again(folder: Path, stack: Stack, broken: str | None) -> int:
    """Play a case that was kept once more: the same copies, the same choices, other moments."""
    os.environ |= stack.environment() | QUIET
    import django

    django.setup()
    from tests.soak.branch import play

    case, book, users = pickle.loads((folder / "case.pickle").read_bytes())  # noqa: S301  our own
    play(case, stack, stack.folder / "branch", lambda _: copy.deepcopy(book), users=users, broken=broken)
    print(*case.off or ["nothing is off"], sep="\n", flush=True)
    return 1 if case.off else 0
