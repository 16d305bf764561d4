"""Load and faults for some minutes, then an audit: script/soak MINUTES [--on PAIR] [--seed N] [--share 0.7] [--to DIR]

`script/soak setbacks --help`: stores that are set back under load. `script/soak memory --help`: Redis by kind of key.

Measures the capacity, then lets requests arrive at 70 % of it while the flush runs all the time and a fault comes every
10 s: flush, Redis, database or web worker are killed, stopped for some seconds, or cut off. Then everything is healed
and flushed, and what was acknowledged is compared with what is counted. Exits with 1 if anything is off.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from servers import ROOT
from tests.soak import faults, memory, report, setbacks
from tests.soak.clients import Clients, fill
from tests.soak.stack import Stack

USERS: Final = 500
VIDEOS: Final = 200
WARM_SECONDS: Final = 2.0
CAPACITY_SECONDS: Final = 8.0
MEMORY_SECONDS: Final = 15.0  # between two looks at Redis' keys
MIGRATION = ("migrate", "--verbosity=0")


def main() -> int:
    """Soak, write the report, return the exit code."""
    if sys.argv[1:2] == ["setbacks"]:
        return setbacks.main(sys.argv[2:])
    if sys.argv[1:2] == ["memory"]:
        return memory.main(sys.argv[2:])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends the servers and removes their files
    parser = argparse.ArgumentParser("script/soak", description=__doc__.partition("\n")[2] if __doc__ else None)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--on", choices=("sqlite", "mariadb", "mysql"), default="mariadb", help="default: mariadb")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats the schedule of faults")
    parser.add_argument("--share", type=float, default=0.7, help="of the capacity (0.7)")
    parser.add_argument("--rate", type=float, help="at most so many requests a second")
    parser.add_argument("--to", type=Path, metavar="DIR", help="where the report goes (var/soak-...)")
    options = parser.parse_args()
    to: Path = options.to or ROOT / "var" / f"soak-{time.strftime('%Y%m%d-%H%M%S')}-{options.seed}"
    print(f"Soak of {options.minutes:g} minutes on {options.on}, seed {options.seed}.", flush=True)
    with TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        with Stack(Path(name), options.on) as stack:
            result = soak(stack, options)
            report.write(to, result)
            for log, text in stack.logs().items():
                (to / log).write_text(text[-1_000_000:])
    print((to / "summary.md").read_text())
    print(f"Report: {to}", flush=True)
    return 1 if result["off"] else 0


def soak(stack: Stack, options: argparse.Namespace) -> dict[str, Any]:
    """Run it all and return what came of it."""
    os.environ |= stack.environment()
    stack.manage(*MIGRATION)
    import django

    django.setup()
    from django.db import connections

    from tests.soak.audit import audit, drain

    people, videos = fill(USERS, VIDEOS)
    connections.close_all()  # a database that is killed ends them
    stack.start_service()
    assert stack.web is not None
    settings = {"port": stack.web.port, "videos": videos, "tokens": people, "seed": options.seed}
    clients = Clients(stack.folder, settings)
    clients.tell(do="capacity", seconds=WARM_SECONDS)
    clients.wait(stack, WARM_SECONDS)
    clients.tell(do="capacity", seconds=CAPACITY_SECONDS)
    capacity = clients.wait(stack, CAPACITY_SECONDS)["rate"]
    rate = min(capacity * options.share, options.rate or capacity)
    print(f"Capacity {capacity:,.0f} requests/s; {rate:,.0f} arrive.", flush=True)

    seconds = options.minutes * 60
    clients.seconds.clear()
    begun = time.monotonic()
    clients.tell(do="arrive", rate=rate, seconds=seconds)
    with _looking_at_memory(stack, begun) as looks:
        done = [_do(stack, fault, begun, clients) for fault in faults.schedule(options.seed, seconds, options.on)]
        clients.wait(stack, seconds)
    time.sleep(1.1)  # for the last line of the clients
    kept = clients.end()

    print("Draining and comparing.", flush=True)
    for process in stack.flushes:
        process.stop(60)
    off = [f"{number} answers {status}" for status, number in _unexpected(clients.seconds).items()]
    off += stack.unexpected + kept["odd"] + drain(stack)
    sums, differences = audit(kept["book"], videos)
    windows = [(one["begun"], one["ended"]) for one in done]
    statuses: Counter[str] = Counter()
    for one in clients.seconds:
        one["at"] -= begun
        statuses.update(one["statuses"])
    for one in done:
        within = [second for second in clients.seconds if one["begun"] <= second["at"] <= one["ended"] + 1]
        one["longest"] = max((second["longest"] or 0 for second in within), default=0)
        one["failed"] = sum(n for second in within for status, n in second["statuses"].items() if status[:3] != "200")
    return {
        "minutes": options.minutes, "pair": options.on, "seed": options.seed,
        "capacity": capacity, "rate": rate, "requests": statuses.total(),
        "not_sent": sum(one["not_sent"] for one in clients.seconds), "statuses": statuses, "sums": sums,
        "stale": [due - begun for due in kept["stale"]], "faults": done, "off": off + differences,
        "latencies": report.latencies(stack.folder / "requests", begun, windows),
        "seconds": clients.seconds, "memory": looks,
    }  # fmt: skip


def _do(stack: Stack, fault: faults.Fault, begun: float, clients: Clients) -> dict[str, Any]:
    """Wait until a fault is due, do it, and tell how it went."""
    stack.pause(max(0.0, begun + fault.at - time.monotonic()))
    first = time.monotonic() - begun
    faults.inflict(stack, fault, clients.cut)
    last = time.monotonic() - begun + faults.RECOVERY_SECONDS
    recent = clients.seconds[-10:]
    answered = sum(one["answered"] for one in recent) / max(1, len(recent))
    failed: Counter[str] = Counter()
    for one in recent:
        failed.update({status: n for status, n in one["statuses"].items() if not status.startswith("200")})
    shown = ", ".join(f"{n} {status}" for status, n in failed.items()) or "no failure"
    print(f"{first:6.0f} s  {fault!s:<34} {answered:6,.0f}/s, {shown}", flush=True)
    return {**fault._asdict(), "fault": str(fault), "begun": first, "ended": last}


def _unexpected(seconds: list[dict[str, Any]]) -> Counter[str]:
    """Answers that no outage excuses."""
    found: Counter[str] = Counter()
    for one in seconds:
        for status, number in one["statuses"].items():
            if status[:3] not in {"200", "503", "no ", "not"}:
                found[status] += number
    return found


@contextlib.contextmanager
def _looking_at_memory(stack: Stack, begun: float) -> Iterator[list[dict[str, Any]]]:
    """Look at Redis' keys now and then, in a thread, past the proxies; while Redis is away there is no look."""
    import redis

    looks: list[dict[str, Any]] = []
    stop = threading.Event()

    def look() -> None:
        client = redis.Redis(port=stack.redis.port, socket_timeout=5)
        while not stop.wait(MEMORY_SECONDS):
            with contextlib.suppress(redis.RedisError):
                kinds = memory.measure(client)
                used = client.info("memory")["used_memory"]
                looks.append({"at": time.monotonic() - begun, "used": used, "kinds": kinds})

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
