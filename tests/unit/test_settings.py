"""What `streaming/settings.py` makes of the environment."""

import os
import runpy
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.exceptions import ImproperlyConfigured

SETTINGS = Path(__file__).resolve().parent.parent.parent / "streaming" / "settings.py"
REQUIRED = {
    "SECRET_KEY": "x" * 50,
    "DATABASE_URL": "mysql://a@nowhere/b",
    "REDIS_URL": "redis://nowhere/0",
    "ALLOWED_HOSTS": "videos.example",
}
pytestmark = pytest.mark.once


def read(**environment: str) -> dict[str, Any]:
    """The settings under an environment that holds nothing else."""
    values = {"STREAMING_ENV_FILE": os.devnull} | REQUIRED | environment
    with patch.dict(os.environ, values, clear=True):
        return runpy.run_path(str(SETTINGS))


@pytest.mark.parametrize("value", ["$PATH", r"\$a$b", "#a=b'\"", '"quoted"', "ä"])
def test_a_secret_is_taken_as_it_stands(value: str) -> None:
    assert read(SECRET_KEY=value)["SECRET_KEY"] == value


@pytest.mark.parametrize("value", ["10 minutes", "1,5", "sixty", "0x10"])
def test_what_is_no_number_is_refused_by_name(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"TOKEN_MINUTES must be a number, not '{value}'"):
        read(TOKEN_MINUTES=value)


def test_an_empty_variable_is_as_good_as_none() -> None:
    names = ("TOKEN_MINUTES", "CACHE_URL", "DEBUG", "THROTTLE_STORAGE_URL", "LOG_LEVEL", "SECURE_SSL_REDIRECT")
    kept = ("VIDEOS_TOKEN_MINUTES", "CACHES", "DEBUG", "VIDEOS_THROTTLE_STORAGE", "LOGGING", "SECURE_SSL_REDIRECT")
    empty, unset = read(**dict.fromkeys(names, "")), read()
    assert [empty[name] for name in kept] == [unset[name] for name in kept]


def test_numbers_flags_and_lists_are_read() -> None:
    settings = read(
        REDIS_TIMEOUT_SECONDS="1e-1",
        DEBUG=" Yes ",
        SECURE_SSL_REDIRECT="off",
        ALLOWED_HOSTS="a.example, b.example, ",
        SECRET_KEY_FALLBACKS="$old, ,older, ",
    )
    assert settings["COUNTERS_TIMEOUT_SECONDS"] == 0.1
    assert (settings["DEBUG"], settings["SECURE_SSL_REDIRECT"]) == (True, False)
    assert settings["ALLOWED_HOSTS"] == ["a.example", "b.example"]
    assert settings["SECRET_KEY_FALLBACKS"] == ["$old", "older"]


def test_cors_is_installed_only_where_origins_are_named() -> None:
    on, off = read(CORS_ALLOWED_ORIGINS="https://a.example, https://b.example"), read()
    assert on["CORS_ALLOWED_ORIGINS"] == ["https://a.example", "https://b.example"]
    assert on["MIDDLEWARE"] == ["corsheaders.middleware.CorsMiddleware", *off["MIDDLEWARE"]]
    assert set(on["INSTALLED_APPS"]) - set(off["INSTALLED_APPS"]) == {"corsheaders"}


def test_options_and_signs_of_a_mysql_url_are_kept() -> None:
    url = "mysql://u%40x:p%2F%23%3A+$@h.example:3307/some%2Bvideos?ssl_mode=VERIFY_IDENTITY&ssl-ca=/a/b.pem&read_timeout=7"
    database = read(DATABASE_URL=url)["DATABASES"]["default"]
    address = [database[name] for name in ("USER", "PASSWORD", "HOST", "PORT", "NAME")]
    assert address == ["u@x", "p/#:+$", "h.example", 3307, "some+videos"]
    options = database["OPTIONS"]
    assert (options["ssl_mode"], options["ssl"], options["read_timeout"]) == (
        "VERIFY_IDENTITY", {"ca": "/a/b.pem"}, 7,
    )  # fmt: skip
    assert (options["connect_timeout"], options["charset"]) == (3, "utf8mb4")


def test_the_path_of_an_sqlite_url_is_kept() -> None:
    database = read(DATABASE_URL="sqlite:////var/a%20b+c.sqlite3")["DATABASES"]["default"]
    assert (database["ENGINE"], database["NAME"]) == ("django.db.backends.sqlite3", "/var/a b+c.sqlite3")


def test_lines_of_the_named_file_fill_in_what_is_not_set(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text(
        "# made by hand\nexport TOKEN_MINUTES=7\nCSRF_TRUSTED_ORIGINS='https://a.example'\nSECRET_KEY=other\n\n"
    )
    settings = read(STREAMING_ENV_FILE=str(file))
    assert (settings["VIDEOS_TOKEN_MINUTES"], settings["CSRF_TRUSTED_ORIGINS"]) == (7, ["https://a.example"])
    assert settings["SECRET_KEY"] == REQUIRED["SECRET_KEY"]


def test_a_named_file_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    assert read(STREAMING_ENV_FILE=str(tmp_path / "none"))["SECRET_KEY"] == REQUIRED["SECRET_KEY"]
