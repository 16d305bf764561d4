"""Set the views of videos from a CSV file, such as those that another system has counted."""

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from videos import services
from videos.changes import MAX_ID

VIDEOS = 1000  # in one transaction


class Command(BaseCommand):
    """`manage.py import_counts FILE`. Its first line names the columns: `video,view_count`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Repeating an import changes nothing, unless it is to `--add`."""
        parser.add_argument("file", help="CSV with the header video,view_count; - reads standard input")
        parser.add_argument("--add", action="store_true", help="add to what is counted, instead of setting it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, and report the videos that do not exist."""
        if options["file"] == "-":
            self._import(sys.stdin, options)
            return
        try:
            with Path(options["file"]).open(newline="", encoding="utf-8-sig") as file:
                self._import(file, options)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(str(error)) from error

    def _import(self, file: TextIO, options: dict[str, Any]) -> None:
        lines = csv.reader(file)
        column = _column_of(next(lines, []))
        done = absent = 0
        # disable=None draws on a terminal only.
        with tqdm(desc="import", unit=" videos", leave=False, disable=None if options["verbosity"] else True) as bar:
            for values in _parts(lines):
                try:
                    missing = services.import_counts(column=column, values=values, add=options["add"])
                except (services.Unavailable, services.ValueRefused) as error:
                    raise CommandError(f"After {done} videos: {error.__cause__ or error}") from error
                for video_id in missing:
                    self.stdout.write(f"video {video_id}: there is none")
                done += len(values) - len(missing)
                absent += len(missing)
                bar.update(len(values))
        if options["verbosity"]:
            self.stdout.write(f"{done} videos imported, {absent} absent; the next flush shows them.")


def _column_of(header: list[str]) -> str:
    names = [name.strip() for name in header]
    if len(names) != 2 or names[0] != "video" or names[1] not in services.IMPORTABLE:
        hint = " like_count is the number of like rows: import those, then run reconcile_counters --repair."
        raise CommandError(
            f"The first line must be video,{'|'.join(services.IMPORTABLE)}, not {','.join(header)!r}."
            + (hint if "like_count" in names else "")
        )
    return names[1]


def _parts(lines: Iterable[list[str]]) -> Iterator[dict[int, int]]:
    """Values by video, VIDEOS at a time."""
    part: dict[int, int] = {}
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        numbers = [_number(text) for text in line]
        if len(line) != 2 or numbers[0] is None or numbers[1] is None:
            raise CommandError(f"Line {number} is not a video's id and a number: {','.join(line)[:100]!r}.")
        if numbers[0] in part or len(part) == VIDEOS:
            yield part
            part = {}
        part[numbers[0]] = numbers[1]
    if part:
        yield part


def _number(text: str) -> int | None:
    text = text.strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 19 else None
    return number if number is not None and number <= MAX_ID else None
