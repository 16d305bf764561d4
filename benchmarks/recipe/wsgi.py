"""The recipe's WSGI callable."""

import os

from django.core.wsgi import get_wsgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.recipe.settings"
application = get_wsgi_application()
