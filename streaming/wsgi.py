"""The WSGI callable that a web server runs."""

import os
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")
django.setup(set_prefix=False)


class Request(WSGIRequest):
    """Django's, but in UTF-8 whatever charset a client names.

    Django decodes with any codec that Python has (zlib, idna) while it makes the request: outside of all that catches
    errors, so that the client gets an empty 500.
    """

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:
            self.content_type, self.content_params = "", {}


class Handler(WSGIHandler):
    """Makes such requests."""

    request_class = Request


application = Handler()
