"""The WSGI callable of every alternative that is a Django project."""

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
