"""The WSGI callable that a web server runs."""

import os
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")
django.setup(set_prefix=False)


class Request(WSGIRequest):
    """Django's, but a charset that is no text encoding, such as zlib, is overlooked: there it fails with no answer."""

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except (LookupError, UnicodeError):
            self._encoding = None


class Handler(WSGIHandler):
    """Makes such requests."""

    request_class = Request


application = Handler()
