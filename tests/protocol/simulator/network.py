"""The simulator's network: what the service takes for connections of redis-py. Redis itself is real.

A command may be held up on its way, its connection may break before or after Redis has executed it, and a reply may
come later than its client waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

import hiredis
import redis

from tests.protocol.simulator.clock import BEGIN_US, SECOND_US, Clock
from tests.protocol.simulator.process import Process, running
from videos.counters import scripts
from videos.counters.connection import FLUSH_TIMEOUT_SECONDS, REQUEST_TIMEOUT_SECONDS

NAMES = {script.sha.encode(): name for name, script in vars(scripts).items() if isinstance(script, scripts.Script)}
Command = list[bytes]


@dataclass
class Packet:
    """Commands on their way to Redis."""

    commands: list[Command]
    inbox: deque[tuple[int, Any]]  # of the socket that sent them
    process: Process
    due_us: int
    reply_us: int  # how long the replies take


@dataclass
class Network:
    """The way to one Redis, of all processes."""

    clock: Clock
    real: Any  # a connection of redis-py
    random: Random
    trace: list[tuple[Any, ...]]
    executed: Callable[[Command, Any], None]  # told of each script and its reply
    run: int = 0  # counts the starts of Redis
    faults: float = 0.0  # how likely a packet meets one
    down_until_us: int = 0
    late: list[Packet] = field(default_factory=list)

    def reaches(self, process: Process | None) -> bool:
        """Whether packets of this process arrive."""
        cut_off = 0 if process is None else process.machine.cut_off_until_us
        return self.clock.now_us >= max(cut_off, self.down_until_us)

    def ask(self, *command: Any) -> Any:
        """Redis' reply to a command of the simulator's own."""
        self.real.send_command(*command)
        return self.real.read_response()

    def execute(self, who: str, packed: bytes, commands: list[Command]) -> list[Any]:
        """Let Redis execute commands. An error is a reply."""
        self.real.send_packed_command([packed], check_health=False)
        replies = []
        for command in commands:
            try:
                reply = self.real.read_response()
            except redis.ResponseError as error:
                reply = error
            self.trace.append((self.clock.now_us, who, command, reply))
            self.executed(command, reply)
            replies.append(reply)
        return replies

    def deliver(self, packet: Packet) -> None:
        """Let Redis execute a packet that was held up."""
        self.late.remove(packet)
        for command in packet.commands:
            replies = self.execute("late", pack(command), [command])
            packet.inbox += [(self.clock.now_us + packet.reply_us, reply) for reply in replies]
        packet.process.awake_at_us = min(packet.process.awake_at_us, self.clock.now_us + packet.reply_us)


class Line:
    """What the service takes for a connection of redis-py."""

    def __init__(self, network: Network, *, for_flush: bool) -> None:
        self.network = network
        self.for_flush = for_flush
        self.socket_timeout = FLUSH_TIMEOUT_SECONDS if for_flush else REQUEST_TIMEOUT_SECONDS
        self.is_connected = False
        self.broken = False
        self.run = 0
        self.inbox: deque[tuple[int, Any]] = deque()  # when a reply arrives, and the reply

    def connect(self) -> None:
        if self.is_connected:
            return
        if not self.network.reaches(running()):
            raise redis.ConnectionError("refused")
        self.run, self.is_connected, self.broken = self.network.run, True, False
        self.inbox = deque()  # replies to what an older socket sent go nowhere

    def disconnect(self) -> None:
        self.is_connected = False

    def can_read(self, timeout: float = 0) -> bool:
        self._check()
        return any(at <= self.network.clock.now_us for at, _ in self.inbox)

    def _check(self) -> None:
        if self.broken or not self.is_connected or self.run != self.network.run:
            self.broken = True
            raise redis.ConnectionError("closed")

    def send_packed_command(self, packed: list[bytes], *, check_health: bool) -> None:
        process = running()
        reader = hiredis.Reader()
        reader.feed(packed[0])
        commands: list[Command] = []
        while command := reader.gets():
            commands.append(cast(Command, command))
        self._check()
        if not commands or commands[0][0] in {b"TIME", b"INFO"}:
            self._answer(commands)
        elif process is None:
            self.inbox += [(0, reply) for reply in self.network.execute("main", packed[0], commands)]
        else:
            self._send(process, packed[0], commands)

    def _send(self, process: Process, packed: bytes, commands: list[Command]) -> None:
        """Send commands after a turn of their own. If the connection breaks, the process notices when it reads."""
        network = self.network
        fails = network.random.random() < network.faults
        process.gate("redis")
        self.broken = self.broken or not network.reaches(process)
        if self.run != network.run or self.broken:
            return
        if fails:
            self._fail(process, packed, commands)
            return
        for place, command in enumerate(commands):
            if place:  # a server may run commands of other clients between those of a pipeline
                process.gate("redis")
                if self.run != network.run:
                    return
            self._execute(process, command)

    def _execute(self, process: Process, command: Command) -> None:
        replies = self.network.execute(process.name, pack(command), [command])
        self.inbox += [(0, reply) for reply in replies]

    def _fail(self, process: Process, packed: bytes, commands: list[Command]) -> None:
        network = self.network
        kind = network.random.choice(("lost", "cut after", "held up", "held up and cut", "late reply"))
        network.trace.append((network.clock.now_us, process.name, kind))
        delay_us = int(self.socket_timeout * SECOND_US * network.random.choice((0.1, 0.3, 0.5, 1.1, 2, 20)))
        self.broken = kind in {"lost", "cut after", "held up and cut"}
        if kind.startswith("held up"):
            due_us, reply_us = network.clock.now_us + delay_us, network.random.choice((0, delay_us))
            network.late.append(Packet(commands, self.inbox, process, due_us, reply_us))
        elif kind != "lost":
            replies = network.execute(process.name, packed, commands)
            self.inbox += [(network.clock.now_us + delay_us, reply) for reply in replies]

    def _answer(self, commands: list[Command]) -> None:
        for command in commands:
            if command[0] == b"TIME":
                seconds, us = divmod(self.network.clock.redis_us, SECOND_US)
                self.inbox.append((0, [b"%d" % seconds, b"%d" % us]))
            elif command[0] == b"INFO":
                self.inbox.append((0, b"run_id:run%d" % self.run))
            else:
                self.inbox += [(0, reply) for reply in self.network.execute("main", pack(command), [command])]

    def read_response(self, timeout: float | None = None) -> Any:
        network, process = self.network, running()
        seconds = self.socket_timeout if timeout is None else timeout
        until_us = network.clock.now_us + int(seconds * SECOND_US)
        while not (self.inbox and self.inbox[0][0] <= network.clock.now_us):
            self._check()
            if network.clock.now_us >= until_us or process is None:
                raise redis.TimeoutError("no reply in time")
            process.gate("reply", awake_at_us=min([until_us, *(at for at, _ in list(self.inbox)[:1])]))
        reply = self.inbox.popleft()[1]
        if isinstance(reply, Exception):
            raise reply
        return reply


def pack(command: Command) -> bytes:
    """A command as it is sent."""
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
    return packed


def shown(event: tuple[Any, ...]) -> str:
    """A line of the trace: an event, or a command with its reply."""
    at_us, who, what, *reply = event
    when = f"{(at_us - BEGIN_US) / SECOND_US:.3f} {who}: "
    if isinstance(what, str):
        return when + what
    script = NAMES.get(what[1] if len(what) > 1 else b"")
    parts = what[:2] if what[0] == b"SCRIPT" else what if script is None else [script.encode(), *what[3:]]
    text = " ".join(part.decode(errors="replace") for part in parts)
    return f"{when}{text} -> {reply[0]}".replace("{videos:", "{").replace("b'", "'")
