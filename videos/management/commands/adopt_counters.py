"""Join this Redis and this database on purpose, or let Redis take another VIDEOS_SHARDS."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from videos import meeting
from videos.flush import CountersUnavailable


class Command(BaseCommand):
    """`manage.py adopt_counters`.

    For a database that was restored elsewhere from before it met its Redis, and for a change of VIDEOS_SHARDS. Stop web
    servers and flushes first.
    """

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--keep", action="store_true", help="keep changes that are not flushed, as this database's")
        group.add_argument("--drop", action="store_true", help="drop changes that are not flushed")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            redis, database = meeting.adopt(keep=options["keep"], drop=options["drop"])
        except meeting.NotEmpty as error:
            raise CommandError(
                f"{error} Flush them with the database and the VIDEOS_SHARDS they belong to; or --drop them; or --keep "
                "them, if VIDEOS_SHARDS is the same and no batch is open."
            ) from error
        except CountersUnavailable as error:
            raise CommandError(str(error)) from error
        if options["verbosity"]:
            self.stdout.write(
                f"Redis belonged to the database {redis.identity}, with {redis.shards} shards; this database is "
                f"{database.identity}, with {database.shards}. They belong together now."
            )
