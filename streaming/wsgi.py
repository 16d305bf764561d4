"""The WSGI callable that a web server runs."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")
django.setup(set_prefix=False)

from videos.api.handler import Handler  # noqa: E402  needs the settings

application = Handler()
