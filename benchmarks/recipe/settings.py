"""Settings of the recipe's own small project. It checks tokens with the service's own class."""

from benchmarks.startproject import *  # noqa: F403
from benchmarks.startproject import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework", "benchmarks.recipe"]
ROOT_URLCONF = "benchmarks.recipe.urls"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["videos.api.authentication.TokenAuthentication"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
}
