"""A private server: a folder, a port that stays, start, stop, kill, restart."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from servers.process import START_SECONDS, Process, StartFailed, free_port


class Server:
    """The base of all servers. `with` starts it; afterwards neither a process nor files are left."""

    name = "server"  # in messages; its log has it in lower case
    own_session = True
    end_signal = signal.SIGKILL  # sent to it when its parent ends

    def __init__(
        self,
        folder: Path,
        command: Sequence[str | Path] = (),
        *,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        make_private(folder)
        self.folder = folder
        self.port = port or free_port()
        self.env = env  # None is that of its parent
        self.terminal = False  # whether it writes to the terminal instead of its log
        self.process: Process | None = None
        self._command = list(command)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> Path:
        """The file that it writes to."""
        return self.folder / f"{self.name.lower()}.log"

    @property
    def url(self) -> str:
        """Where clients find it."""
        raise NotImplementedError

    @property
    def command(self) -> list[str | Path]:
        """The program and its arguments."""
        return self._command

    @property
    def up(self) -> bool:
        """Whether it runs and is ready."""
        return self.process is not None and self.process.running and self.ready()

    def pids(self) -> list[int]:
        """Return the numbers of its processes."""
        return self.process.pids() if self.process is not None else []

    def ready(self) -> bool:
        """Whether it answers."""
        return True

    def answers(self, seconds: float) -> bool:
        """Whether it answers within this time, where that can be asked: a supervisor starts it again if not."""
        return True

    def launch(self) -> Process:
        """Start it and return at once."""
        self.process = Process(
            self.command,
            name=self.name,
            log=None if self.terminal else self.log,
            env=self.env,
            own_session=self.own_session,
            end_signal=self.end_signal,
        )
        return self.process

    def start(self) -> None:
        """Start it and return when it answers. StartFailed, with the end of its log, when it does not."""
        process = self.launch()
        try:
            process.wait_until(lambda: self.up, seconds=START_SECONDS)
        except StartFailed:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop it in order."""
        if self.process is not None:
            self.process.stop()
            self.process = None

    def kill(self) -> None:
        """Kill it (SIGKILL), as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def restart(self) -> None:
        """Start it again on the same port and files, after `stop` or `kill`."""
        self.start()

    def close(self) -> None:
        """Leave nothing running and no files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def make_private(folder: Path) -> None:
    """Make a folder that no other user can read: it will hold keys, passwords and counts."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that no other user can read at any moment, and that is never half written."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
