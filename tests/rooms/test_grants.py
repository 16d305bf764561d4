"""Database users with the privileges of docs/operations.md may do all that the service does, and none is too many."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DatabaseError, connection, connections
from django.test import Client

from servers import MariaDBServer, free_port
from tests.conftest import with_counters
from tests.support.doors import VIDEOS, ask, bearer, like_path, view_path
from tests.support.factories import make_admin, make_user, make_videos
from tests.support.outages import INSIDE, PAGE
from videos import services
from videos.flush import run_flush

pytestmark = [pytest.mark.database, pytest.mark.only("mariadb", "mysql"), pytest.mark.django_db(transaction=True)]

SECTION = PAGE.with_name("operations.md").read_text().split("## Database users\n")[1].split("\n## ")[0]
STATEMENTS = re.findall(r"[^;`]+(?=;)", SECTION.split("```sql\n")[1])
PRIVILEGES = {name: listed.split(", ") for listed, name in re.findall(r"GRANT (.*) ON streaming\.\* TO (\w+)", SECTION)}

# A video without words, a word without its video, and an hour: migrations write words, delete them, and fill tables.
ROWS = (
    (
        "INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, first_name, last_name,"
        " email, date_joined) VALUES (1, 'owner', '', 0, 0, 1, '', '', '', NOW())"
    ),
    (
        "INSERT INTO videos_video (id, title, description, url, duration, owner_id, created_at, like_count, view_count,"
        " flushed_batch) VALUES (1, 'title', '', 'https://example.com/v', 1, 1, NOW(), 0, 0, 0)"
    ),
    "INSERT INTO videos_videoword (word, video_id) VALUES ('gone', 2)",
    "INSERT INTO videos_videohour (video_id, hour, likes, views) VALUES (1, '2026-11-01 05:00:00', 0, 7)",
)


def sign_in_as(name: str, database: str = "streaming") -> None:
    connections.close_all()
    connection.settings_dict |= {"USER": name, "PASSWORD": "PASSWORD", "NAME": database}


@pytest.fixture
def server(private_database: MariaDBServer) -> Iterator[MariaDBServer]:
    """A server with the users of the page; this process is the one that migrates."""
    shared = dict(connection.settings_dict)
    for statement in STATEMENTS:
        private_database.query(statement)
    connection.settings_dict |= {"HOST": "127.0.0.1", "PORT": private_database.port}
    sign_in_as("migrations")
    yield private_database
    connections.close_all()
    connection.settings_dict |= shared


def do_all(settings: Any) -> None:
    """What web servers, flush and commands do, with Redis and without."""
    User.objects.all().delete()
    liker, admin = make_user("liker"), make_admin()
    liker.set_password("of the liker")
    liker.save()
    videos = make_videos(3)
    body = b'{"username": "liker", "password": "of the liker"}'
    assert ask("POST", "/api/token/", body, REMOTE_ADDR=INSIDE).status == 200
    caches = settings.CACHES
    for away in (False, True):
        if away:
            with_counters(settings, LOCATION=f"redis://127.0.0.1:{free_port()}/0")
        for video in videos:
            assert ask("PUT", like_path(video), **bearer(liker)).status == 200
            assert ask("POST", view_path(video), b"{}").status == 200
        assert ask("DELETE", like_path(videos[0]), **bearer(liker)).status == 200
        settings.CACHES = caches
        assert not run_flush().failed
    assert ask("GET", VIDEOS, QUERY_STRING="search=1").status == 200
    client = Client()
    client.force_login(admin)
    assert client.get("/admin/videos/video/").status_code == 200
    call_command("index_videos", verbosity=0)
    call_command("reconcile_counters", "--repair", verbosity=0)
    services.delete_video(video_id=videos[0])
    liker.delete()
    assert not run_flush().failed
    assert ask("GET", "/health/ready", REMOTE_ADDR=INSIDE).status == 200
    found = {check.id for check in run_checks(databases=["default"])}
    assert found <= {"videos.W023", "videos.W013", "videos.W018"}, found


def test_the_service_needs_each_privilege_of_the_page_and_no_other(server: MariaDBServer, settings: Any) -> None:
    server.query("DROP DATABASE streaming")
    migrate_with_data(server, "streaming")
    sign_in_as("videos")
    do_all(settings)
    caches = settings.CACHES
    for privilege in PRIVILEGES["videos"]:
        server.query(f"REVOKE {privilege} ON streaming.* FROM videos")
        connections.close_all()
        with pytest.raises((AssertionError, DatabaseError)):
            do_all(settings)
        settings.CACHES = caches
        server.query(f"GRANT {privilege} ON streaming.* TO videos")
    connections.close_all()
    do_all(settings)


def migrate_with_data(server: MariaDBServer, database: str) -> None:
    """Migrate up to the migration that reads rows, add some, and go on."""
    server.query(f"CREATE DATABASE {database}")
    sign_in_as("migrations", database)
    call_command("migrate", "auth", verbosity=0)
    call_command("migrate", "videos", "0007", verbosity=0)
    for statement in ROWS:
        server.query(statement, database=database)
    call_command("migrate", verbosity=0)


def test_migrations_need_each_privilege_of_the_page(server: MariaDBServer, database_kind: str) -> None:
    for privilege in PRIVILEGES["migrations"]:
        if (privilege, database_kind) == ("REFERENCES", "mariadb"):
            continue  # MariaDB knows this privilege and does not look at it
        database = f"without_{privilege.lower()}"
        others = ", ".join(name for name in PRIVILEGES["migrations"] if name != privilege)
        server.query(f"GRANT {others} ON {database}.* TO migrations")
        with pytest.raises(DatabaseError, match="command denied"):
            migrate_with_data(server, database)
