"""Django's settings. The environment is read here only; in production a missing value raises, it has no default.

Over 250 lines: Django reads its settings from one file, and nothing else here reads the environment.
"""

import logging
import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import environ
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

BASE_DIR = Path(__file__).resolve().parent.parent

# What `script/server` wrote: `manage.py` in a second terminal then sees the same databases as the running service. It
# is not read where the environment has a SECRET_KEY of its own: production in this checkout must not start embedded.
_named_file = os.environ.get("STREAMING_ENV_FILE")
if _named_file and not Path(_named_file).exists():
    raise ImproperlyConfigured(f"STREAMING_ENV_FILE names {_named_file}, which does not exist.")
if _named_file or not os.environ.get("SECRET_KEY"):
    environ.Env.read_env(_named_file or BASE_DIR / "var" / "env")

# An empty variable counts as none. "$" is escaped because django-environ takes a value that begins with it, such as a
# generated SECRET_KEY, for the name of another variable.
env = environ.Env()
env.escape_proxy = True
env.ENVIRON = {name: value.replace("$", r"\$") for name, value in os.environ.items() if value}


def _required(name: str) -> str:
    if name not in env:
        raise ImproperlyConfigured(
            f"Set the environment variable {name}, or run script/server for a start on embedded defaults."
        )
    return str(env(name))


def _number(name: str, default: float) -> float:
    """A finite number. django-environ's own reads "10 minutes" as 10 and "1e3" as 13."""
    text = env.str(name, default=str(default))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ImproperlyConfigured(f"{name} must be a number, not {text!r}.")
    return number


def _whole(name: str, default: int) -> int:
    number = _number(name, default)
    if not number.is_integer():
        raise ImproperlyConfigured(f"{name} must be a whole number, not {env.str(name)!r}.")
    return int(number)


FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on", "y", "t", "ok"), True),
    **dict.fromkeys(("0", "false", "no", "off", "n", "f"), False),
}


def _flag(name: str, *, default: bool) -> bool:
    """True or false. django-environ's own reads every unknown word as false."""
    word = env.str(name, default=str(default)).strip().lower()
    if word not in FLAGS:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(FLAGS)}, not {word!r}.")
    return FLAGS[word]


def _level(name: str, default: str) -> str:
    level = str(env.str(name, default=default)).strip().upper()
    if level not in logging.getLevelNamesMapping():
        raise ImproperlyConfigured(f"{name} must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not {level!r}.")
    return level


FILES = {"sqlite", "unix"}  # schemes of URLs that may hold any character


def _urls(name: str, text: str, *, separator: str | None = ",") -> str:
    """URLs, unless a character of a password would end their host. The message shows no part of them."""
    for url in text.split(separator) if separator else [text]:
        try:
            parts = urlsplit(url.strip())
            readable = parts.scheme in FILES or not (parts.fragment or "@" in parts.path + parts.query)
        except ValueError:
            readable = False
        if not readable:
            raise ImproperlyConfigured(
                f"{name} cannot be read. Percent-encode a user's name and a password: / as %2F, # as %23, ? as %3F, "
                "@ as %40, : as %3A, [ as %5B, % as %25, a comma as %2C."
            )
    return text


def _words(name: str) -> list[str]:
    """Words with commas between them. An empty one is left out: an empty key in SECRET_KEY_FALLBACKS would verify."""
    return [word for word in env.list(name, str.strip, default=[]) if word]


# The start for newcomers, by script/server: demo accounts, plain HTTP on 127.0.0.1.
EMBEDDED = _flag("STREAMING_EMBEDDED", default=False)
DEBUG = _flag("DEBUG", default=False)
SECRET_KEY = _required("SECRET_KEY")
SECRET_KEY_FALLBACKS = _words("SECRET_KEY_FALLBACKS")
_local_hosts = ["localhost", "127.0.0.1", "[::1]"] if EMBEDDED or DEBUG else []
ALLOWED_HOSTS = _words("ALLOWED_HOSTS") or _local_hosts or [_required("ALLOWED_HOSTS")]
CSRF_TRUSTED_ORIGINS = _words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "unfold",  # before the admin, whose templates it replaces
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "videos",
]
MIDDLEWARE = [
    "videos.middleware.GuardMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
CORS_ALLOWED_ORIGINS = _words("CORS_ALLOWED_ORIGINS")
if CORS_ALLOWED_ORIGINS:  # pages of these origins may call the API
    INSTALLED_APPS += ["corsheaders"]
    MIDDLEWARE.insert(0, "corsheaders.middleware.CorsMiddleware")
CORS_URLS_REGEX = r"^/api/"
CORS_EXPOSE_HEADERS = ["Retry-After", "X-Counts"]
ROOT_URLCONF = "streaming.urls"
WSGI_APPLICATION = "streaming.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


SSL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")  # of the driver


def _database(url: str) -> dict[str, Any]:
    """Settings of one database from its URL, with timeouts: a database that is away costs seconds, not minutes.

    By dj-database-url: django-environ's own parser loses `ssl-ca`, a "+" in a path, and a socket's path as the host.
    """
    try:
        database: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=600, conn_health_checks=True))
    except ValueError as error:
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read. {error}") from None  # the cause shows the password
    if not database.get("NAME"):
        raise ImproperlyConfigured("DATABASE_URL names no database. Write it as mysql://user:password@host:3306/name.")
    options = database.setdefault("OPTIONS", {})
    if database["ENGINE"].endswith("mysql"):
        if options.get("ssl"):  # MariaDB's client library would else connect in clear to a server without TLS
            options.setdefault("ssl_mode", "VERIFY_CA")
        if options.get("ssl_mode") not in {None, *SSL_MODES}:
            raise ImproperlyConfigured(f"ssl_mode in DATABASE_URL must be one of {', '.join(SSL_MODES)}.")
        options.setdefault("charset", "utf8mb4")
        options.setdefault("connect_timeout", 3)
        options.setdefault("read_timeout", 30)
        options.setdefault("write_timeout", 30)
        options.setdefault(
            "init_command",
            "SET SESSION sql_mode='STRICT_TRANS_TABLES', innodb_lock_wait_timeout=10, default_storage_engine=InnoDB",
        )
    elif database["ENGINE"].endswith("sqlite3"):
        # IMMEDIATE: a transaction that reads first and writes later would else fail at once under a second writer.
        options.setdefault("transaction_mode", "IMMEDIATE")
        options.setdefault("timeout", 20)
        options.setdefault("init_command", "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    return database


DATABASES = {"default": _database(_urls("DATABASE_URL", _required("DATABASE_URL"), separator=None))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# One quarter of a second: a request that Redis does not answer goes on without it. No retries: a repeated increment
# counts twice (redis-py repeats by default).
COUNTERS_TIMEOUT_SECONDS = _number("REDIS_TIMEOUT_SECONDS", 0.25)
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "counters": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _urls("REDIS_URL", _required("REDIS_URL")),
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": COUNTERS_TIMEOUT_SECONDS,
            "SOCKET_TIMEOUT": COUNTERS_TIMEOUT_SECONDS,
            "CONNECTION_POOL_KWARGS": {"retry": None, "retry_on_error": [], "protocol": 2, "max_connections": 10_000},
        },
    },
}
if "CACHE_URL" in env:
    CACHES["default"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": _urls("CACHE_URL", env.str("CACHE_URL")),
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": COUNTERS_TIMEOUT_SECONDS,
            "SOCKET_TIMEOUT": COUNTERS_TIMEOUT_SECONDS,
            "IGNORE_EXCEPTIONS": True,  # without the cache its values are computed again
        },
    }

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = None if EMBEDDED else BASE_DIR / "staticfiles"  # embedded: served from where the packages have them
WHITENOISE_USE_FINDERS = _flag("WHITENOISE_USE_FINDERS", default=EMBEDDED)
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000  # bytes of a request's body; a batch of 1,000 events needs a fifth of it

UNFOLD = {
    "SITE_TITLE": "Likes and views",
    "SITE_HEADER": "Likes and views",
    "SITE_SYMBOL": "monitoring",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("videos/icon.svg")}],
    "SCRIPTS": [lambda request: static("videos/admin.js")],
    "STYLES": [lambda request: static("videos/admin.css")],
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "videos.api.authentication.TokenAuthentication",
        "videos.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["videos.api.bodies.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "videos.api.negotiation.PreparedNegotiation",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "videos.api.errors.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Likes and views",
    "DESCRIPTION": "Counts likes and views of videos at rates that a database cannot take.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENFORCE_NON_BLANK_FIELDS": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

VIDEOS_JWT_SIGNING_KEY = env.str("JWT_SIGNING_KEY", default="")
VIDEOS_JWT_SIGNING_KEY_FALLBACKS = _words("JWT_SIGNING_KEY_FALLBACKS")
VIDEOS_ADDRESS_VIEWS = _whole("ADDRESS_VIEWS", 1000)
VIDEOS_VIEW_WATCHED_REQUIRED = _flag("VIEW_WATCHED_REQUIRED", default=False)
VIDEOS_DISLIKES = _flag("DISLIKES", default=True)
VIDEOS_LIKERS = env.str("LIKERS", default="owner")
VIDEOS_TOKEN_MINUTES = _number("TOKEN_MINUTES", 60)
VIDEOS_REFRESH_TOKEN_DAYS = _number("REFRESH_TOKEN_DAYS", 14)
VIDEOS_THROTTLE_STORAGE = _urls(
    "THROTTLE_STORAGE_URL", env.str("THROTTLE_STORAGE_URL", default="counters://"), separator=None
)
VIDEOS_TRUSTED_PROXY_HOPS = _whole("TRUSTED_PROXY_HOPS", 0)
if "PRIVATE_NETWORKS" in env:
    VIDEOS_PRIVATE_NETWORKS = tuple(_words("PRIVATE_NETWORKS"))
VIDEOS_FLUSH_INTERVAL_SECONDS = _whole("FLUSH_INTERVAL_SECONDS", 60)

if not EMBEDDED:
    SECURE_SSL_REDIRECT = _flag("SECURE_SSL_REDIRECT", default=True)
    SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]  # probes come from inside, without TLS
    SECURE_HSTS_SECONDS = _whole("SECURE_HSTS_SECONDS", 31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    if VIDEOS_TRUSTED_PROXY_HOPS:
        SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Django's own logging is silent in production. With this, each 500, each refusal (django.request), each failed sign-in
# (django.security) and each warning of a library leaves a line. AWS Lambda's runtime has a handler of its own at the
# root, which adds the request's id.
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "django": {"handlers": [], "level": "WARNING"},
        "videos": {"level": _level("LOG_LEVEL", "INFO")},
    },
}
if "AWS_LAMBDA_RUNTIME_API" not in env:
    LOGGING["root"] = {"handlers": ["stderr"], "level": "WARNING"}
DEFAULT_EXCEPTION_REPORTER = "videos.api.reports.Reporter"
