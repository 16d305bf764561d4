"""Run a management command, and have its process killed, or stopped, at a step of the flush.

    python -m tests.support.kill_at STOP "STEP" COMMAND [ARGUMENT ...]
    python -m tests.support.kill_at KILL "STEP, STEP ..." COMMAND [ARGUMENT ...]

A step is a call to Redis or the database, before or after it, or a statement inside a transaction; "before confirm" is
the first of its name, "before confirm 2" the second. STOP stops this process. KILL kills one process for each step, one
after the other, forked from this one, which has read all code by then; a command that found too little to do to get to
the step is run again.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import django
from django.core.management import call_command

SIGNAL, STEPS, COMMAND = signal.Signals[f"SIG{sys.argv[1]}"], sys.argv[2].split(", "), sys.argv[3:]
GATHER_SECONDS = 0.2  # between two processes
taken: Counter[str] = Counter()


def step(name: str) -> None:
    """Take a step, and get the signal when it is the one."""
    taken[name] += 1
    if (name if taken[name] == 1 else f"{name} {taken[name]}") == STEPS[0]:
        os.kill(os.getpid(), SIGNAL)


def stepping(module: Any, name: str) -> None:
    """Put a step before and after a function of a module or a class."""
    function: Callable[..., Any] = getattr(module, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        step(f"before {name}")
        result = function(*args, **kwargs)
        step(f"after {name}")
        return result

    setattr(module, name, call)


def main() -> None:
    """Install the steps and run the command."""
    django.setup()
    from django.conf import settings

    from videos import counters, ledger
    from videos.flush.pace import Pace
    from videos.ledger import sql

    settings.VIDEOS_SHARDS = int(os.environ.get("KILL_AT_SHARDS", "1"))
    settings.VIDEOS_FLUSH_CHUNK_FIELDS = int(os.environ.get("KILL_AT_CHUNK_FIELDS", "1000"))
    for name in ("claim", "make_durable", "confirm", "sums", "close"):
        stepping(counters.Batch, name)
    for name in ("resync", "note_finished_run"):
        stepping(counters, name)
    for name in ("newest_batches", "open_batch", "apply", "finish_batch", "settle"):
        stepping(ledger, name)
    for name in ("insert_likes", "delete_likes", "add_counts", "add_hours"):
        stepping(sql, name)
    stepping(Pace, "rest")
    if SIGNAL is signal.SIGSTOP:
        call_command(*COMMAND)
    else:
        while STEPS:
            time.sleep(GATHER_SECONDS)
            kill()


def kill() -> None:
    """Run the command in a child process. If this step killed it, continue with the next step."""
    sys.stdout.write(f"{STEPS[0]}\n")
    sys.stdout.flush()
    child = os.fork()
    if not child:
        call_command(*COMMAND)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -SIGNAL:
        del STEPS[0]
    elif code:
        sys.exit(code)


if __name__ == "__main__":
    main()
