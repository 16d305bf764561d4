"""Which faults a soak has, and when: a seed makes one schedule."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from tests.soak.stack import WORKERS, Stack

TARGETS: Final = ("flusher", "redis", "database", "web")
KINDS: Final = ("kill", "stop", "cut")
# How connections are cut: once; refused; the server acts but its replies are lost; nothing passes and nothing ends.
CUTS: Final = ("once", "refuse", "lose replies", "swallow")
EVERY_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 4.0
RECOVERY_SECONDS: Final = 2.0  # after the server is back: the promise of docs/operations.md


class Fault(NamedTuple):
    """One fault, `at` seconds after the load began."""

    at: float
    target: str
    kind: str
    seconds: float
    cut: str
    choice: int  # which worker, or which flush

    def __str__(self) -> str:
        how = f"{self.kind} ({self.cut})" if self.kind == "cut" else self.kind
        return f"{self.target} {how} {self.seconds:.1f} s"


def schedule(seed: int, seconds: float, pair: str) -> list[Fault]:
    """A fault every ten seconds. All combinations come before one comes again."""
    choose = random.Random(seed)
    combinations = [(target, kind) for target in TARGETS for kind in KINDS if pair != "sqlite" or target != "database"]
    deck: list[tuple[str, str]] = []
    faults = []
    for turn in range(int(seconds / EVERY_SECONDS)):
        if not deck:
            deck = choose.sample(combinations, len(combinations))
        target, kind = deck.pop()
        lasts, cut = choose.uniform(0.3, LONGEST_SECONDS), choose.choice(CUTS)
        if kind == "cut" and cut == "once":
            lasts = 0.0
        faults.append(Fault(turn * EVERY_SECONDS + 2, target, kind, lasts, cut, choose.randrange(99)))
    return faults


def inflict(stack: Stack, fault: Fault, cut_clients: Callable[[], None]) -> None:
    """Do it, wait, heal it, and wait until the service is whole again."""
    with _KINDS[fault.kind](stack, fault, cut_clients):
        stack.pause(fault.seconds)
    stack.wait_until(lambda: whole(stack), what=f"recovery from {fault}")


def whole(stack: Stack) -> bool:
    """Whether every process runs."""
    running = all(process.running for process in stack.flushes)
    return running and len(stack.workers()) >= WORKERS and stack.redis.up


@contextmanager
def _kill(stack: Stack, fault: Fault, _: Callable[[], None]) -> Iterator[None]:
    stack.kill(fault.target, fault.choice)
    yield
    stack.restart(fault.target)


@contextmanager
def _stop(stack: Stack, fault: Fault, _: Callable[[], None]) -> Iterator[None]:
    pids = stack.pids_of(fault.target, fault.choice)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def _cut(stack: Stack, fault: Fault, cut_clients: Callable[[], None]) -> Iterator[None]:
    # A web server or a flush is cut off from both servers; once, it is the clients that the web server loses.
    if fault.target == "web" and fault.cut == "once":
        cut_clients()
        yield
        return
    proxies = stack.proxies_of(fault.target)
    for proxy in proxies:
        if fault.cut == "refuse":
            proxy.refuse()
        elif fault.cut == "lose replies":
            proxy.cut_replies = True
        elif fault.cut == "swallow":
            proxy.swallow = True
        else:
            proxy.cut()
    try:
        yield
    finally:
        for proxy in proxies:
            proxy.heal()
            if fault.cut == "swallow":
                proxy.cut()  # what was swallowed is gone: these connections cannot go on


_KINDS: Final = {"kill": _kill, "stop": _stop, "cut": _cut}
