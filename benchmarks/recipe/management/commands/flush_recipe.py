"""`flush_recipe`: the recipe's clock."""

import json
import signal
import threading
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from benchmarks.recipe.flush import flush


class Command(BaseCommand):
    """Run the recipe's flush once, or every so many seconds until SIGTERM."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--every", type=float)
        parser.add_argument("--one-transaction", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Flush, and print each run's keys and seconds as JSON."""
        stopped = threading.Event()
        if options["every"] is not None:
            signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        while not stopped.is_set():
            began = time.perf_counter()
            keys = flush(one_transaction=options["one_transaction"])
            self.stdout.write(json.dumps({"keys": keys, "seconds": time.perf_counter() - began}))
            self.stdout.flush()
            if options["every"] is None:
                return
            stopped.wait(max(0.0, options["every"] - (time.perf_counter() - began)))
