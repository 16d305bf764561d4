"""The process of the clients, and the users and videos that they ask for."""

import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from servers import ROOT, end_with_parent
from tests.soak.stack import Stack


class Clients:
    """The process of tests/soak/load.py, and what it says each second."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        (folder / "load.json").write_text(json.dumps(settings))
        self.seconds: list[dict[str, Any]] = []
        self._done: dict[str, Any] | None = None
        command: list[str | Path] = [sys.executable, "-m", "tests.soak.load", folder]
        self._process = subprocess.Popen(
            end_with_parent(command), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            told = json.loads(line)
            if "done" in told:
                self._done = told
            else:
                self.seconds.append(told)

    def tell(self, **command: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._done = None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def cut(self) -> None:
        """Cut the clients' connections."""
        done = self._done
        self.tell(do="cut")
        self._done = done

    @property
    def is_done(self) -> bool:
        """Whether the last command was carried out."""
        assert self._process.poll() is None, "the clients ended"
        return self._done is not None

    def wait(self, stack: Stack, seconds: float) -> dict[str, Any]:
        """The answer to the last command, which is to take so long."""
        stack.wait_until(lambda: self.is_done, what="the clients' answer", seconds=seconds + 60)
        assert self._done is not None
        return self._done

    def kill(self) -> None:
        """End the process at once, without its book."""
        self._process.kill()
        self._process.wait()

    def end(self) -> dict[str, Any]:
        """End the process and return its book and what it found odd."""
        self.tell(do="end")
        assert self._process.wait(60) == 0
        kept: dict[str, Any] = pickle.loads((self.folder / "book.pickle").read_bytes())  # noqa: S301  our own
        return kept


def fill(users: int, videos: int) -> tuple[dict[int, str], list[int]]:
    """Users with their tokens, and videos. Needs Django."""
    from tests.support.factories import make_users, make_videos
    from videos.api.tokens import ACCESS, USER_CLAIM, Token

    made = make_users(users)
    return {user: str(Token(ACCESS, 36_000, {USER_CLAIM: str(user)})) for user in made}, make_videos(videos)
