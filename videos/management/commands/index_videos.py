"""Let searches find all videos: compare their words with titles and descriptions, and write what differs."""

from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from videos.services import index_all


class Command(BaseCommand):
    """`manage.py index_videos`.

    For titles and descriptions that were written by SQL, or by an older version; else it finds nothing to do.
    """

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        # disable=None draws on a terminal only.
        with tqdm(desc="index", unit=" videos", leave=False, disable=None if options["verbosity"] else True) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            changed = index_all(progress=show)
        if options["verbosity"]:
            self.stdout.write(f"{changed} videos indexed anew")
