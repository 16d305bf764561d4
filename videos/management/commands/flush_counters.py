"""Write the changes that wait in Redis to the database."""

import gc
import json
import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from tqdm import tqdm

from videos.changes import COUNTS
from videos.conf import conf
from videos.flush import FlushReport, run_flush


def shard_numbers(text: str) -> list[int]:
    """The shards in a text such as `0-7,12`."""
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ArgumentTypeError(f"{part!r} is no shard; write them as 0-7,12")
        if int(last or first) >= conf.SHARDS:
            raise ArgumentTypeError(f"shards go from 0 to {conf.SHARDS - 1}")
        chosen.update(range(int(first), int(last or first) + 1))
    if not chosen:
        raise ArgumentTypeError(f"{text!r} names no shard")
    return sorted(chosen)


def positive_seconds(text: str) -> float:
    """A number of seconds above zero."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


class Command(BaseCommand):
    """`manage.py flush_counters`: once, or every so many seconds until SIGTERM."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--every", type=positive_seconds, metavar="SECONDS", help="run again and again until SIGTERM"
        )
        parser.add_argument("--max-seconds", type=positive_seconds, help="stop between chunks after this time")
        parser.add_argument(
            "--gently",
            type=positive_seconds,
            default=0.0,
            metavar="SECONDS",
            help="take small pieces, rest after each, and give way to other processes, but finish in this time: for a "
            "machine that serves requests",
        )
        parser.add_argument("--shards", type=shard_numbers, help="such as 0-7,12; all by default")
        parser.add_argument("--json", action="store_true", help="one JSON object a run")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, report, and fail when a shard failed."""
        gc.freeze()  # loaded modules are never freed; scanning them took a quarter of a flush's CPU time
        stop = threading.Event()
        handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while True:
                report = self._run(stop, options)
                if options["every"] is None or stop.wait(max(0.0, options["every"] - report.seconds)):
                    break
                close_old_connections()  # the server may have closed it meanwhile
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if report.failed:
            raise CommandError(
                f"{len(report.failures)} of the shards failed; what they claimed stays for the next run."
            )

    def _run(self, stop: threading.Event, options: dict[str, Any]) -> FlushReport:
        # disable=None draws on a terminal only.
        with tqdm(desc="flush", unit=" shards", leave=False, disable=None if options["verbosity"] else True) as bar:

            def show(done: int, total: int, so_far: FlushReport) -> None:
                bar.total = total
                bar.set_postfix_str(f"{so_far.fields} fields", refresh=False)
                bar.update(done - bar.n)

            report = run_flush(
                shards=options["shards"],
                max_seconds=options["max_seconds"],
                gentle_seconds=options["gently"],
                progress=show,
                should_stop=stop.is_set,
            )
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict()))
            self.stdout.flush()  # a pipe is buffered
        elif options["verbosity"] > 1 or (options["verbosity"] and (report.fields or not options["every"])):
            self.stdout.write(describe(report))
        for shard, reason in report.failures.items():
            self.stderr.write(self.style.ERROR(f"Shard {shard} failed: {reason}"))
        return report


def describe(report: FlushReport) -> str:
    """One line about a run."""
    sums = report.sums
    parts = [
        ", ".join(
            f"{sums[f'{count.name}_added']} {count.name} added, {sums[f'{count.name}_removed']} removed"
            if count.kind == "mark"
            else f"{sums[count.name]} {count.name}"
            for count in COUNTS
        ),
        f"{sums['videos']} videos in {report.batches} batches",
        f"{report.fields} fields in {report.seconds:.2f} s",
    ]
    parts += [
        f"{getattr(report, name)} {name}" for name in ("repeated", "dropped", "rejected") if getattr(report, name)
    ]
    if report.settled:
        parts.append(f"{report.settled} live counts set anew for {report.notes} notes")
    if report.postponed:
        parts.append(f"{report.postponed} videos whose rows are locked wait")
    if report.rewound:
        parts.append(f"{report.rewound} batches REWOUND: Redis had forgotten batches, views may be off")
    if report.unkept:
        parts.append(f"{report.unkept} batches NOT KEPT for a replay: Redis is nearly full")
    if not report.complete:
        parts.append("stopped early, the next run goes on")
    return "; ".join(parts)
