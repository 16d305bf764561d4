"""Services within a transaction of their caller, and characters that a database cannot hold."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.utils import OperationalError
from django.test import Client

from tests.support.factories import make_admin, make_user, make_video
from tests.support.faults import failing, redis_refusing
from videos import checks, ledger, services
from videos.flush import reconcile, run_flush
from videos.ledger import reads
from videos.models import Video, VideoLike

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]


def like(video: Video, user: User, liked: bool) -> None:
    with redis_refusing():
        services.set_like(video_id=video.pk, user_id=user.pk, liked=liked)


def elsewhere(act: Callable[[], Any]) -> None:
    """Do it in another thread, which has a connection of its own."""

    def run() -> None:
        act()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def test_what_the_caller_rolls_back_is_gone_from_rows_and_counts(video: Video, user: User) -> None:
    with transaction.atomic():
        like(video, user, True)
        assert VideoLike.objects.count() == 1
        transaction.set_rollback(True)
    run_flush()
    video.refresh_from_db()
    assert (video.like_count, VideoLike.objects.count()) == (0, 0)


@pytest.fixture
def repeatable_read() -> Iterator[None]:
    """Transactions of this thread read from one snapshot."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    yield
    connection.close()


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("liked", [True, False])
def test_a_wish_within_an_older_snapshot_is_held_against_the_rows(
    video: Video, user: User, liked: bool, repeatable_read: None
) -> None:
    if not liked:
        like(video, user, True)
    with transaction.atomic():
        assert VideoLike.objects.count() == (not liked)  # the snapshot is made here
        elsewhere(lambda: like(video, user, liked))
        like(video, user, liked)
    video.refresh_from_db()
    assert (video.like_count, VideoLike.objects.count()) == (liked, liked)


@pytest.mark.only("mariadb", "mysql")
def test_a_user_deleted_within_an_older_snapshot_takes_all_likes_along(
    video: Video, user: User, repeatable_read: None
) -> None:
    other = make_video(title="two")
    like(video, user, True)
    with transaction.atomic():
        assert VideoLike.objects.count() == 1
        elsewhere(lambda: like(other, user, True))
        user.delete()
    assert VideoLike.objects.count() == 0
    assert reconcile().differences == []


def test_a_flush_without_autocommit_is_refused(video: Video, user: User) -> None:
    services.set_like(video_id=video.pk, user_id=user.pk, liked=True)
    transaction.set_autocommit(False)
    try:
        with pytest.raises(RuntimeError, match="The flush needs autocommit"), ledger.flush_session():
            pass
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.parametrize("number", [1366, 1267, 3988, 1300])
def test_a_value_that_the_database_refuses_is_no_outage(
    call: Callable[..., Any], video: Video, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(reads, "_fetch", failing(OperationalError(number, "Incorrect string value")))
    answer = call("GET", f"/api/videos/{video.pk}/")
    assert (answer.status_code, answer.get("Retry-After")) == (400, None)
    assert answer.json()["detail"].startswith("The database cannot hold")


@pytest.fixture
def narrow_columns(django_db_setup: None) -> Iterator[None]:
    """Titles and names of users in latin1, and notes in MyISAM, as a server with other defaults makes them."""
    changes = [
        ("videos_video MODIFY title VARCHAR(200) CHARACTER SET {} NOT NULL", "latin1", "utf8mb4"),
        ("auth_user MODIFY username VARCHAR(150) CHARACTER SET {} NOT NULL", "latin1", "utf8mb4"),
        ("videos_stalelive ENGINE={}", "MyISAM", "InnoDB"),
    ]
    with connection.cursor() as cursor:
        for statement, narrow, _ in changes:
            cursor.execute(f"ALTER TABLE {statement.format(narrow)}")
    yield
    with connection.cursor() as cursor:
        for statement, _, usual in changes:
            cursor.execute(f"ALTER TABLE {statement.format(usual)}")


@pytest.mark.only("mariadb", "mysql")
def test_characters_that_a_column_cannot_hold_are_refused(call: Callable[..., Any], narrow_columns: None) -> None:
    user = make_user("ann")
    made = call("POST", "/api/videos/", user=user, body={"title": "Harbour 😀", "url": "https://v.example/1"})
    assert (made.status_code, made.get("Retry-After")) == (400, None)
    assert call("GET", "/api/videos/?search=%F0%9F%98%80").status_code in {200, 400}
    assert call("POST", "/api/token/", body={"username": "an😀n", "password": "x"}).status_code == 401
    client = Client(raise_request_exception=False)
    client.force_login(make_admin())
    video = {"title": "😀", "description": "", "url": "https://v.example/2", "duration": "5", "owner": str(user.pk)}
    assert client.post("/admin/videos/video/add/", video).status_code == 400
    assert client.get("/admin/videos/video/?q=😀").status_code in {200, 400}
    found = {str(message.id): str(message) for message in checks.database.ask_server("default")}
    assert {"videos.E026", "videos.E027"} <= set(found)
    assert "videos_stalelive (MyISAM)" in found["videos.E026"]
    assert "auth_user.username (latin1), videos_video.title (latin1)" in found["videos.E027"]


def test_w026_a_server_that_makes_other_tables() -> None:
    found = [message.id for message in checks.database.judge_tables("MyISAM", {}, {})]
    assert found == ["videos.W026"]
