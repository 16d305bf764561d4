"""The WSGI callable of django-hitcount."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.hits.settings"
application = get_wsgi_application()
