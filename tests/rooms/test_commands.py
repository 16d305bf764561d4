"""The commands as an operator sees them: a bar on a terminal only, and as many words as wished."""

import io
import os
import pty
import re
import select
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from functools import partial

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from tqdm import tqdm

from servers import RedisServer
from tests.support.breakdowns import stopped
from tests.support.factories import make_likes, make_videos
from tests.support.faults import end_pauses
from videos import services
from videos.conf import conf
from videos.flush import run_flush
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

COMMAND_FOLDER = "videos.management.commands"
QUIET_SECONDS = 0.3  # a terminal that shows nothing for so long has shown all
COMMANDS = pytest.mark.parametrize("command", ["flush_counters", "reconcile_counters"])


@contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """A terminal as stderr; what is yielded tells what was drawn on it since the last call."""
    screen, keyboard = pty.openpty()
    termios.tcsetwinsize(keyboard, (24, 120))  # rows, columns

    def drawn() -> str:
        parts = []
        while select.select([screen], [], [], QUIET_SECONDS)[0]:
            parts.append(os.read(screen, 65_536))
        return b"".join(parts).decode()

    with os.fdopen(keyboard, "w") as stderr, redirect_stderr(stderr):
        yield drawn
    os.close(screen)


def said(command: str, *arguments: str, verbosity: int = 1) -> str:
    """What a command prints, something being there for it to do."""
    make_likes()
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, verbosity=verbosity)
    return out.getvalue()


@COMMANDS
def test_a_terminal_gets_a_bar_that_leaves_an_empty_line(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{COMMAND_FOLDER}.{command}.tqdm", partial(tqdm, mininterval=0))  # draws every step
    with terminal() as read:
        said(command)
        drawn = read()
    total = 1 if command == "reconcile_counters" else conf.SHARDS
    assert re.search(rf"\r{command.partition('_')[0]}: 100%\|\S+\| {total}/{total} ", drawn)
    assert re.search(r"\r +\r$", drawn)
    assert "\n" not in drawn


@COMMANDS
def test_a_quiet_command_draws_and_prints_nothing(command: str) -> None:
    with terminal() as read:
        assert (said(command, verbosity=0), read()) == ("", "")


@COMMANDS
def test_what_is_no_terminal_gets_no_bar(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(command) != ""
    assert capsys.readouterr().err == ""


def test_a_recount_names_videos_that_are_not_there() -> None:
    (video,) = make_videos(1)
    out = io.StringIO()
    call_command("reconcile_counters", "987654", str(video), "987655", stdout=out)
    assert out.getvalue().splitlines() == [
        "video 987654: there is none",
        "video 987655: there is none",
        "1 videos recounted, 0 differences, 0 repaired",
    ]


def test_a_repair_fails_soon_while_redis_hangs_and_can_be_repeated(own_redis: RedisServer) -> None:
    (video,), users = make_likes(1, 2)
    run_flush()
    VideoLike.objects.filter(user=users[0]).delete()
    begin = time.monotonic()
    with stopped(own_redis), pytest.raises(CommandError, match="Nothing was repaired"):
        call_command("reconcile_counters", "--repair", verbosity=0)
    seconds = time.monotonic() - begin
    end_pauses()
    assert (seconds < 2, Video.objects.get(pk=video).like_count) == (True, 2)
    call_command("reconcile_counters", "--repair", verbosity=0)
    services.set_like(video_id=video, user_id=users[0], liked=True)
    run_flush()
    assert (Video.objects.get(pk=video).like_count, VideoLike.objects.count()) == (2, 2)
