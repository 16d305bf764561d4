"""Recount like rows against the stored counts, and report each difference; with --repair, set the counts."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from videos.flush import CountersUnavailable, reconcile


class Command(BaseCommand):
    """`manage.py reconcile_counters`.

    For SQL by hand and restored backups; after the service's own work it finds nothing.
    """

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("videos", nargs="*", type=int, help="ids; all by default")
        parser.add_argument("--repair", action="store_true", help="set the counts; without it nothing is written")

    def handle(self, *args: Any, **options: Any) -> None:
        # disable=None draws on a terminal only.
        with tqdm(desc="reconcile", unit=" videos", leave=False, disable=None if options["verbosity"] else True) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            try:
                report = reconcile(video_ids=options["videos"] or None, repair=options["repair"], progress=show)
            except CountersUnavailable as error:
                raise CommandError(str(error)) from error
        for video in report.absent:
            self.stdout.write(f"video {video}: there is none")
        for found in report.differences:
            self.stdout.write(
                f"video {found['video']}: {found['column']} is {found['stored']}, its rows are {found['counted']}"
                + (" (repaired)" if found["repaired"] else "")
            )
        if options["verbosity"]:
            hint = "" if options["repair"] or not report.differences else "; --repair sets them"
            self.stdout.write(
                f"{report.videos} videos recounted, {len(report.differences)} differences, "
                f"{report.repaired} repaired{hint}"
            )
