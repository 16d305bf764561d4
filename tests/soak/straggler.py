"""A flush that began before a store was set back, stood still meanwhile, and goes on afterwards. Needs Django."""

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.db import connections

from videos import flush, ledger
from videos.conf import conf
from videos.counters import Batch

# Between two of its steps. Not inside a transaction: a set-back of the database ends that.
STOPS: Final = (
    (Batch, "make_durable"),  # after the claim
    (Batch, "scan"),
    (ledger, "apply"),
    (Batch, "confirm"),  # after a commit
    (ledger, "finish_batch"),
    (Batch, "close"),
)
SECONDS: Final = 10.0


class Straggler:
    """A flush of one shard, in a thread. `go_on` and `join` end it."""

    def __init__(self, choose: random.Random) -> None:
        self.failure: BaseException | None = None
        self.shard = choose.randrange(conf.SHARDS)
        owner, name = choose.choice(STOPS)
        self._left = choose.choice((1, 1, 2))
        self._stopped, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        original = getattr(owner, name)
        setattr(owner, name, self._stopping(original))
        self._restore = partial(setattr, owner, name, original)

    def start(self) -> None:
        """Start it, and return once it stands still, or has ended."""
        self._thread.start()
        self._stopped.wait(SECONDS)

    def go_on(self) -> None:
        """Let it go on."""
        self._restore()
        self._go.set()

    def join(self) -> None:
        """Wait for its end. Raises what it raised."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "a flush of before the set-back does not end"
        if self.failure is not None:
            raise self.failure

    def _stopping(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is self._thread:
                self._left -= 1
                if not self._left:
                    self._stopped.set()
                    self._go.wait(SECONDS)
            return original(*args, **kwargs)

        return act

    def _work(self) -> None:
        try:
            flush.run_flush(shards=[self.shard])
        except BaseException as error:  # noqa: BLE001 - raised again by join
            self.failure = error
        finally:
            self._stopped.set()
            connections.close_all()
