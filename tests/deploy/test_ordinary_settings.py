"""Ordinary settings of Django: the service works under them, or a system check says that it does not.

Each test starts a process under settings of its own, which uses the whole service once: `tests/support/exercise.py`.
The file is long because the settings stand in one place.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.own_settings import Seen, exercise

# How long a server takes says how busy the machine is.
PATIENT = 'VIDEOS_DATABASE_WAIT_SECONDS = 5\nCACHES["counters"]["OPTIONS"]["SOCKET_TIMEOUT"] = 5\n'
Try = Callable[..., Seen]

UNSYNCED = {"videos.W013", "videos.W023", "videos.W024"}  # the servers of the tests do not sync each write


@pytest.fixture
def under(transactional_db: None, tmp_path: Path, database_kind: str) -> Iterator[Try]:
    """`under(lines, *arguments, **environment)` uses the service under these settings, on a new database."""
    from django.db import connection

    name = f"own_{secrets.token_hex(4)}"
    if database_kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'own.sqlite3'}"
    else:
        url = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{name}"
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")

    def use(lines: str, *arguments: str, **environment: str) -> Seen:
        seen = exercise(tmp_path, f"{PATIENT}{lines}", os.environ | {"DATABASE_URL": url} | environment, *arguments)
        return Seen(sorted(set(seen.checks) - UNSYNCED), seen.faults)

    yield use
    if database_kind != "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name}")


DATABASE = 'DATABASES["default"]'
OF_THE_DATABASE = {
    "a transaction for each request": f'{DATABASE}["ATOMIC_REQUESTS"] = True',
    "times without a zone": 'USE_TZ = False\nTIME_ZONE = "America/New_York"',
    "another zone": 'TIME_ZONE = "Asia/Kathmandu"',
    "another zone in the rows": f'{DATABASE}["TIME_ZONE"] = "America/New_York"\nTIME_ZONE = "Asia/Seoul"',
    "a connection for each request": f'{DATABASE} |= {{"CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False}}',
    "connections for ever": f'{DATABASE}["CONN_MAX_AGE"] = None',
}
OF_MYSQL = {
    "repeatable read": f'{DATABASE}["OPTIONS"]["isolation_level"] = "repeatable read"\n'
    f'{DATABASE}["ATOMIC_REQUESTS"] = True\nVIDEOS_FLUSH_ISOLATION_LEVEL = "repeatable read"',
    "serializable": f'{DATABASE}["OPTIONS"]["isolation_level"] = "serializable"\n'
    'VIDEOS_FLUSH_ISOLATION_LEVEL = "serializable"',
    "the server's isolation and modes": f'{DATABASE}["OPTIONS"] = {{"isolation_level": None}}',
    "ANSI": f"""{DATABASE}["OPTIONS"]["init_command"] = "SET SESSION sql_mode='ANSI,TRADITIONAL,ONLY_FULL_GROUP_BY,"
    "NO_BACKSLASH_ESCAPES', time_zone='+09:00'" """.replace('"\n    "', ""),
}


@pytest.mark.database
@pytest.mark.only("sqlite", "mariadb")
@pytest.mark.parametrize("lines", OF_THE_DATABASE.values(), ids=OF_THE_DATABASE)
def test_settings_of_the_database_work(under: Try, lines: str) -> None:
    assert under(lines) == ([], [])


@pytest.mark.database
@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("lines", OF_MYSQL.values(), ids=OF_MYSQL)
def test_options_of_mysql_work(under: Try, lines: str) -> None:
    assert under(lines) == ([], [])


OF_DJANGO = {
    "words and slashes": 'APPEND_SLASH = False\nLANGUAGE_CODE = "ko"\nUSE_THOUSAND_SEPARATOR = True',
    "no translations": 'USE_I18N = False\nDEFAULT_AUTO_FIELD = "django.db.models.AutoField"\nDEBUG = True',
    "sessions in the cache": 'SESSION_ENGINE = "django.contrib.sessions.backends.cache"\nCSRF_USE_SESSIONS = True\n'
    "SESSION_SAVE_EVERY_REQUEST = True",
    "its own logging": 'LOGGING = {"version": 1, "disable_existing_loggers": True}\nSECRET_KEY = b"x" * 60\n'
    'SECRET_KEY_FALLBACKS = [b"y" * 60]',
    "no logging": 'LOGGING_CONFIG = None\nSTATIC_URL = "https://cdn.example/s/"\n'
    'CACHES["other"] = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}',
    "cookies of other names": 'CSRF_COOKIE_NAME = "c"\nSESSION_COOKIE_NAME = "sid"\nUSE_X_FORWARDED_HOST = True',
    "no limit of bodies": "DATA_UPLOAD_MAX_MEMORY_SIZE = None",
    "another order of apps": 'INSTALLED_APPS = ["videos", *[app for app in INSTALLED_APPS if app != "videos"]]',
    "no admin": 'INSTALLED_APPS.remove("django.contrib.admin")\nROOT_URLCONF = "videos.urls"',
    "Redis without TLS": 'CACHES["counters"]["OPTIONS"]["CONNECTION_POOL_KWARGS"]["ssl"] = False',
}
SLOWER = {  # W003 says that all requests take Django's way
    "other middleware": 'MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *MIDDLEWARE, '
    '"django.contrib.auth.middleware.LoginRequiredMiddleware"]',
    "a language for each visitor": 'MIDDLEWARE.insert(3, "django.middleware.locale.LocaleMiddleware")',
    "small bodies": "DATA_UPLOAD_MAX_MEMORY_SIZE = 2000",
    "a prefix of the server": 'FORCE_SCRIPT_NAME = "/app"',
}


@pytest.mark.once
@pytest.mark.parametrize("lines", OF_DJANGO.values(), ids=OF_DJANGO)
def test_ordinary_settings_work(under: Try, lines: str) -> None:
    assert under(lines) == ([], [])


@pytest.mark.once
@pytest.mark.parametrize("lines", SLOWER.values(), ids=SLOWER)
def test_settings_that_close_the_express_lane_work(under: Try, lines: str) -> None:
    assert under(lines) == (["videos.W003"], [])


REST = """
REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.BrowsableAPIRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1/day"},
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "UNAUTHENTICATED_USER": None,
    "DATETIME_FORMAT": "%d",
}
"""


@pytest.mark.once
@pytest.mark.parametrize("express", [True, False])
def test_defaults_of_rest_framework_are_of_other_views(under: Try, express: bool) -> None:
    assert under(f"{REST}VIDEOS_EXPRESS = {express}") == ([], [])


@pytest.mark.once
def test_rest_framework_without_settings_lacks_the_schema_only(under: Try) -> None:
    assert under("REST_FRAMEWORK = {}") == (["videos.W005"], [])


@pytest.mark.once
def test_a_project_of_few_apps_works(under: Try) -> None:
    lines = (
        'INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "videos"]\nMIDDLEWARE = []\n'
        'ROOT_URLCONF = "videos.urls"\ndel EMBEDDED\n'
        'TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]'
    )
    assert under(lines) == (["videos.W005"], [])


URLS = """
from django.contrib import admin
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("video-site/", include("videos.urls")),
    path("api/videos/", lambda request: HttpResponse("of another app")),
]
"""


@pytest.mark.once
def test_the_service_works_under_a_path_of_its_own(under: Try, tmp_path: Path) -> None:
    (tmp_path / "site_urls.py").write_text(URLS)
    assert under('ROOT_URLCONF = "site_urls"', EXERCISE_PREFIX="/video-site") == (["videos.W003"], [])


ROUTER = """
class Router:
    def db_for_read(self, model, **hints):
        return {read}

    def db_for_write(self, model, **hints):
        return {write!r}

    def allow_relation(self, *objects, **hints):
        return True

    def allow_migrate(self, db, app_label, **hints):
        return db in {migrated}
"""
LAGGING = '"other" if model._meta.app_label == "videos" else "default"'


@pytest.mark.once
@pytest.mark.parametrize(
    ("read", "write", "migrated"),
    [(LAGGING, "default", ["default", "other"]), ('"other"', "other", ["other"])],
    ids=["a replica that lags", "another database"],
)
def test_routers_of_databases_are_followed(
    under: Try, tmp_path: Path, read: str, write: str, migrated: list[str]
) -> None:
    (tmp_path / "routing.py").write_text(ROUTER.format(read=read, write=write, migrated=migrated))
    lines = (
        f'{DATABASE[:-11]}["other"] = {{**{DATABASE}, "NAME": "{tmp_path}/other.sqlite3", '
        f'"OPTIONS": dict({DATABASE}["OPTIONS"])}}\nDATABASE_ROUTERS = ["routing.Router"]'
    )
    assert under(lines) == ([], [])


MODELS = """
import uuid
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models

class Manager(BaseUserManager):
    pass

class User({base}):
    {body}

class Member(User):
    class Meta:
        proxy = True
"""
BY_MAIL = 'mail = models.EmailField(unique=True)\n    USERNAME_FIELD = "mail"\n    objects = Manager()'
WITHOUT_NAME = f"username = None\n    REQUIRED_FIELDS = []\n    {BY_MAIL}"
PAGE = "from django.contrib import admin\nfrom people.models import User\n"
DJANGO_PAGE = f"{PAGE}from django.contrib.auth.admin import UserAdmin\nadmin.site.register(User, UserAdmin)\n"


def write_people(folder: Path, base: str, body: str, page: str = "") -> str:
    """An app with a user model of the operator's; the settings for it."""
    app = folder / "people"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(MODELS.format(base=base, body=body))
    (app / "admin.py").write_text(page)
    return 'AUTH_USER_MODEL = "people.User"\n'


FIRST = 'INSTALLED_APPS = ["people", *INSTALLED_APPS]\n'
LAST = 'INSTALLED_APPS = [*INSTALLED_APPS, "people"]\n'
NO_ADMIN = 'INSTALLED_APPS.remove("django.contrib.admin")\nROOT_URLCONF = "videos.urls"\n'


@pytest.mark.once
@pytest.mark.parametrize(
    ("base", "body", "page", "apps"),
    [
        ("AbstractUser", "pass", "", LAST),
        ("AbstractUser", "pass", DJANGO_PAGE, FIRST),
        ("AbstractUser", "pass", DJANGO_PAGE, LAST),
        ("AbstractUser", WITHOUT_NAME, f"{PAGE}admin.site.register(User)\n", FIRST),
        ("AbstractBaseUser", BY_MAIL, "", LAST + NO_ADMIN),
    ],
    ids=["no page", "page first", "page last", "signs in by mail", "the least"],
)
def test_a_user_model_of_ones_own_works(  # noqa: PLR0917
    under: Try, tmp_path: Path, base: str, body: str, page: str, apps: str
) -> None:
    assert under(write_people(tmp_path, base, body, page) + apps) == ([], [])


@pytest.mark.once
@pytest.mark.parametrize("field", ["UUIDField(default=uuid.uuid4, primary_key=True)", "CharField(primary_key=True)"])
def test_e014_a_user_model_whose_key_is_no_number(under: Try, tmp_path: Path, field: str) -> None:
    lines = write_people(tmp_path, "AbstractUser", f"id = models.{field}") + FIRST
    assert "videos.E014" in under(lines, "--checks").checks


UNSAFE = {
    "E015": 'CACHES["counters"]["OPTIONS"]["CONNECTION_POOL_KWARGS"]["nonsense"] = 1',
    "E016": f'{DATABASE}["AUTOCOMMIT"] = False',
    "W004": 'CACHES["counters"]["KEY_PREFIX"] = "mine"',
    "W005": 'INSTALLED_APPS.remove("drf_spectacular")',
}


@pytest.mark.once
@pytest.mark.parametrize("check", UNSAFE)
def test_a_check_tells_what_does_not_work(under: Try, check: str) -> None:
    assert under(UNSAFE[check], "--checks") == ([f"videos.{check}"], [])


@pytest.mark.once
def test_a_subclass_of_the_cache_is_taken(under: Try, tmp_path: Path) -> None:
    (tmp_path / "own_cache.py").write_text("from django_redis.cache import RedisCache\nclass Own(RedisCache): pass\n")
    assert under('CACHES["counters"]["BACKEND"] = "own_cache.Own"', "--checks") == ([], [])
