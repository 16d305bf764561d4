"""What `django-admin startproject` writes, for the alternative that the environment names (ALTERNATIVE).

Persistent connections, compiled hiredis parser and no DEBUG: what a team would run in production.
"""

import os
from importlib import import_module
from typing import Any

import dj_database_url
from django.apps import AppConfig

NAME = os.environ["ALTERNATIVE"]


class Alternative(AppConfig):
    """The app of an alternative: the models are in the same file as its views and addresses."""

    name = "benchmarks.alternatives"
    label = NAME

    def import_models(self) -> None:
        """Import that file, where Django would look for `models.py`."""
        self.models = self.apps.all_models[self.label]
        self.models_module = import_module(ROOT_URLCONF)


SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "rest_framework",
    *(["hitcount"] if NAME == "hits" else []),
    "benchmarks.alternatives.settings.Alternative",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
if "MIDDLEWARE" in os.environ:  # a layer without any sets it to nothing
    MIDDLEWARE = os.environ["MIDDLEWARE"].split()
ROOT_URLCONF = f"benchmarks.alternatives.{NAME}"
# No migrations: every table is made from its model, in one go.
MIGRATION_MODULES: dict[str, Any] = dict.fromkeys(("auth", "contenttypes", "sessions", "hitcount"))
DATABASES: dict[str, Any] = {"default": dj_database_url.parse(os.environ["DATABASE_URL"], conn_max_age=600)}
DATABASES["default"]["OPTIONS"] = {"charset": "utf8mb4"}
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["REDIS_URL"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
HITCOUNT_KEEP_HIT_ACTIVE = {"minutes": 30}
if NAME in {"recipe", "rows"}:
    REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["benchmarks.alternatives.tokens.TokenAuthentication"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    }
