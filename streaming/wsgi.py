"""The WSGI callable that a web server runs."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "streaming.settings")

application = get_wsgi_application()
