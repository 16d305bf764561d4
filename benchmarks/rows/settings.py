"""Settings of the project that counts in rows."""

from benchmarks.startproject import *  # noqa: F403
from benchmarks.startproject import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework", "benchmarks.rows"]
ROOT_URLCONF = "benchmarks.rows.urls"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["videos.api.authentication.TokenAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}
