"""The commands as an operator sees them: a bar on a terminal only, and as many words as wished."""

from __future__ import annotations

import io
import os
import pty
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr

import pytest
from django.core.management import call_command

from tests.support.load import make_users, make_videos
from videos import services
from videos.management import progress
from videos.management.progress import Progress

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]

QUIET_SECONDS = 0.3  # a terminal that shows nothing for so long has shown all
COMMANDS = pytest.mark.parametrize("command", ["flush_counters", "reconcile_counters"])


@contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """A terminal as stderr; what is yielded tells what was drawn on it since the last call."""
    screen, keyboard = pty.openpty()

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
    (video,), (user,) = make_videos(1), make_users(1)
    services.set_like(video_id=video, user_id=user, liked=True)
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, verbosity=verbosity)
    return out.getvalue()


@COMMANDS
def test_a_terminal_gets_a_bar_that_leaves_an_empty_line(command: str) -> None:
    with terminal() as read:
        said(command)
        drawn = read()
    assert f"\r{command.partition('_')[0]} [{'#' * progress.WIDTH}] " in drawn
    assert drawn.endswith("\r\033[K")
    assert "\n" not in drawn


@COMMANDS
def test_a_quiet_command_draws_and_prints_nothing(command: str) -> None:
    with terminal() as read:
        assert (said(command, verbosity=0), read()) == ("", "")


@COMMANDS
def test_what_is_no_terminal_gets_no_bar(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(command) != ""
    assert capsys.readouterr().err == ""


def test_a_bar_is_not_drawn_more_often_than_it_can_be_read() -> None:
    with terminal() as read:
        bar = Progress("count")
        for done in range(1, 1001):
            bar.update(done, 1000)
        drawn = read()
    assert drawn.startswith("\rcount [")
    assert "1000/1000" in drawn
    assert drawn.count("\r") < 20


def test_a_bar_that_was_never_drawn_clears_nothing() -> None:
    with terminal() as read:
        Progress("count").close()
        assert read() == ""


def test_a_recount_names_videos_that_are_not_there() -> None:
    (video,) = make_videos(1)
    out = io.StringIO()
    call_command("reconcile_counters", "987654", str(video), "987655", stdout=out)
    assert out.getvalue().splitlines() == [
        "video 987654: there is none",
        "video 987655: there is none",
        "1 videos recounted, 0 differences, 0 repaired",
    ]
