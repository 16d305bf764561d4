"""Merge old hours of the history into days; delete what is older than a number of days, if told to."""

import signal
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from videos import services


def positive_days(text: str) -> int:
    """A number of days above zero."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text)):
        raise ArgumentTypeError(f"{text!r} is no number of days above 0")
    return int(text)


class Command(BaseCommand):
    """`manage.py prune_history`: what the flush's housekeeping does a part of each hour, all at once.

    Stopped, it has kept each part that it did; run again, it goes on.
    """

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Counts stay as they are, whatever is deleted of their history."""
        parser.add_argument(
            "--delete-days", type=positive_days, metavar="DAYS", help="delete the history older than this"
        )
        parser.add_argument("--trends", action="store_true", help="compute anew what trends, from the hours")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete first: what is gone need not be merged."""
        stop = threading.Event()
        handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
        shown = []
        try:
            if options["delete_days"]:
                before = datetime.now(UTC) - timedelta(days=options["delete_days"])
                number = self._with_bar("delete", options, lambda show: services.delete_history(
                    before=before, should_stop=stop.is_set, progress=show
                ))  # fmt: skip
                shown.append(f"{number} rows deleted")
            number = self._with_bar("merge", options, lambda show: services.merge_history(
                should_stop=stop.is_set, progress=show
            ))  # fmt: skip
            shown.append(f"{number} rows merged into days")
            if options["trends"]:
                number = self._with_bar("trends", options, lambda show: services.recompute_trends(
                    should_stop=stop.is_set, progress=show
                ))  # fmt: skip
                shown.append(f"trends of {number} videos computed")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if options["verbosity"]:
            self.stdout.write("; ".join([*shown, *(["stopped early, run it again to go on"] if stop.is_set() else [])]))

    def _with_bar(self, name: str, options: dict[str, Any], act: Callable[[Callable[[int, int], None]], int]) -> int:
        # disable=None draws on a terminal only.
        with tqdm(desc=name, leave=False, disable=None if options["verbosity"] else True) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return act(show)
