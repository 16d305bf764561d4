"""Print what the service holds of a user, as JSON: for the user who asks for it."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder

from videos import services


class Command(BaseCommand):
    """`manage.py export_user NAME`: account, videos, likes, sign-ins, and the keys in Redis that name the user."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="with which the user signs in")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = services.export_user(name=options["name"])
        except (services.UserNotFound, services.Unavailable) as error:
            raise CommandError(f"Nothing was exported: {type(error).__name__}.") from error
        self.stdout.write(json.dumps(found, cls=DjangoJSONEncoder, indent=2))
