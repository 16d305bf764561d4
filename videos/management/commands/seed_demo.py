"""Make the demo accounts and videos of the embedded start."""

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from tqdm import tqdm

from videos.models import Video

USERS = 100
VIDEOS = 200
PASSWORD = "demo"  # noqa: S105  of accounts that exist in the embedded start only  # nosec B105
STAFF = "admin"
TITLES = (
    "Harbour at dawn", "Bread in a cast-iron pot", "Why bridges hum", "Learning to whistle", "A week without maps",
    "The clockmaker's bench", "Rain over the old town", "Chess for two evenings", "Inside a lighthouse",
    "Folding paper",
)  # fmt: skip
SUBTITLES = ("the beginning", "what went wrong", "step by step", "in ten minutes", "the long version")
BATCH = 50
FILM = "/static/videos/demo.mp4"  # made by script/film; on whatever port the service is
FILM_SECONDS = 12


class Command(BaseCommand):
    """`manage.py seed_demo`: on a database without accounts only; repeated, it changes nothing."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """With --migrate both steps share one start of Django, which takes most of the time."""
        parser.add_argument("--migrate", action="store_true", help="apply the migrations first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make them. Only the embedded start may have accounts whose passwords are in the README."""
        if not getattr(settings, "EMBEDDED", False):
            raise CommandError("Demo accounts have known passwords: they exist in script/server's embedded start only.")
        if options["migrate"]:
            call_command("migrate", verbosity=0)
        if get_user_model().objects.exists():
            return
        shown = {"desc": "demo", "total": USERS + VIDEOS, "leave": False}
        # disable=None draws on a terminal only.
        with tqdm(**shown, disable=None if options["verbosity"] else True) as bar, transaction.atomic():
            seed_users()
            bar.update(USERS)
            for made in seed_videos():
                bar.update(made)
        if options["verbosity"]:
            self.stdout.write(f"Made {USERS} demo accounts, {STAFF}, and {VIDEOS} demo videos.")


def seed_users() -> None:
    """demo1 … demo100 and the staff account. One hash serves all demo accounts: each costs a third of a second."""
    user_model = get_user_model()
    hashed = make_password(PASSWORD)
    staff = user_model(username=STAFF, password=make_password(STAFF), is_staff=True, is_superuser=True)
    demo = [user_model(username=f"demo{number}", password=hashed) for number in range(1, USERS + 1)]
    user_model.objects.bulk_create([staff, *demo])


def seed_videos() -> Iterator[int]:
    """Videos of demo2 and later. script/server prints a token of demo1, whose views count because it owns no video."""
    owners = list(get_user_model().objects.filter(username__startswith="demo").exclude(username="demo1").order_by("pk"))
    now = timezone.now()
    for first in range(0, VIDEOS, BATCH):
        Video.objects.bulk_create(
            Video(
                title=f"{TITLES[number % len(TITLES)]}: {SUBTITLES[number // len(TITLES) % len(SUBTITLES)]} "
                f"({number + 1})",
                url=FILM,
                duration=FILM_SECONDS,
                owner=owners[number % len(owners)],
                created_at=now - timedelta(hours=VIDEOS - number),
            )
            for number in range(first, first + BATCH)
        )
        yield BATCH
