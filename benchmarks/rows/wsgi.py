"""The WSGI callable of counting in rows."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.rows.settings"
application = get_wsgi_application()
