"""Search: the words that are kept, the ways to a page, and the time that a search may take."""

import io
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext

from tests.support.factories import make_video, make_videos
from videos import ledger, services
from videos.changes import ORDERS
from videos.ledger import search
from videos.models import Video, VideoWord
from videos.services import SearchTimeout, Window
from videos.words import words_of, words_to_find

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
NEWEST = Window("created_at", True, None, 99)


def found(text: str, window: Window = NEWEST) -> list[int]:
    return [row.id for row in services.search_videos(text=text, window=window)]


def words_are_right() -> bool:
    kept = set(VideoWord.objects.values_list("video_id", "word"))
    return kept == {
        (video.pk, word) for video in Video.objects.all() for word in words_of(video.title, video.description)
    }


def _bulk_update(video: Video) -> None:
    video.title = "new kites"
    Video.objects.bulk_update([video], ["title"])


def _save(video: Video) -> None:
    video.title = "new kites"
    video.save()


def _save_column(video: Video) -> None:
    video.title = "new kites"
    video.save(update_fields=["title"])


def _load_fixture(video: Video) -> None:
    video.title = "new kites"
    for loaded in serializers.deserialize("json", serializers.serialize("json", [video])):
        loaded.save()


@pytest.mark.parametrize(
    "write",
    [
        lambda video: Video.objects.filter(pk=video.pk).update(title="new kites"),
        lambda video: video.owner.videos.update(title="new kites"),
        lambda video: services.edit_video(video_id=video.pk, values={"title": "new kites"}),
        _save, _save_column, _bulk_update, _load_fixture,
    ],
    ids=["update", "related_update", "service", "save", "save_column", "bulk_update", "fixture"],
)  # fmt: skip
def test_an_edited_title_is_found_and_its_old_words_are_not(owner: User, write: Callable[[Video], Any]) -> None:
    make_video(User.objects.create(username="another"), title="old kept")
    video = make_video(owner, title="old", description="kept")
    write(video)
    assert video.pk in found("new kites kept")
    assert video.pk not in found("old")
    assert words_are_right()


def test_what_is_rolled_back_is_not_found(owner: User) -> None:
    video = make_video(owner, title="old")
    with transaction.atomic():
        Video.objects.update(title="new")
        make_video(owner, title="new too")
        transaction.set_rollback(True)
    assert (found("old"), found("new")) == ([video.pk], [])


def test_videos_created_in_bulk_are_found_and_deleted_ones_leave_no_word(owner: User) -> None:
    make_video(owner, title="first kites")
    made = [Video(title=f"kites {i}", url="https://example.com", owner=owner) for i in range(3)]
    Video.objects.bulk_create([*made, Video(pk=987654, title="kites", url="https://example.com", owner=owner)])
    assert len(found("kites")) == 5
    Video.objects.filter(title="kites 1").delete()
    services.delete_video(video_id=987654)
    assert len(found("kites")) == 3
    assert words_are_right()
    owner.delete()
    assert not VideoWord.objects.exists()


def test_a_count_is_written_without_a_look_at_words(owner: User) -> None:
    make_video(owner)
    with CaptureQueriesContext(connection) as queries:
        Video.objects.update(like_count=3)
    assert len(queries) == 1


def test_sql_by_hand_is_found_after_index_videos(owner: User) -> None:
    kept, edited, deleted = (
        make_video(owner, title="kept"),
        make_video(owner, title="old"),
        make_video(owner, title="x"),
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE videos_video SET title = 'new' WHERE id = %s", [edited.pk])
        cursor.execute("DELETE FROM videos_video WHERE id = %s", [deleted.pk])
    assert (found("old"), found("new"), found("x")) == ([edited.pk], [], [])
    told = io.StringIO()
    call_command("index_videos", stdout=told)
    assert "2 videos" in told.getvalue()
    assert (found("old"), found("new"), found("kept")) == ([], [edited.pk], [kept.pk])
    assert words_are_right()


WAYS = {
    "rare": {"FEW": 99},
    "some rare": {"FEW": 12},
    "sample": {"FEW": 0, "SAMPLE": 99},
    "walk on": {"FEW": 0, "SAMPLE": 2, "LONG": 99},
    "read all words": {"FEW": 0, "SAMPLE": 1, "LONG": 0},
    "look up common words": {"FEW": 2, "SAMPLE": 1, "LONG": 0, "MANY": 12},
    "too many to read": {"FEW": 1, "SAMPLE": 1, "LONG": 0, "MOST": 6},
    "read common words": {"FEW": 1, "SAMPLE": 1, "LONG": 0, "MANY": 3},
}


@pytest.mark.slow
def test_migrations_index_what_is_there_and_go_back(owner: User) -> None:
    make_videos(205, owner)
    executor = MigrationExecutor(connection)
    last = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "videos"]
    try:
        executor.migrate([("videos", "0006_flushbatch_rewound")])
        assert VideoWord._meta.db_table not in connection.introspection.table_names()
    finally:
        MigrationExecutor(connection).migrate(last)
    assert len(found("20")) == 6
    assert words_are_right()


@pytest.mark.only("mariadb", "mysql")
def test_edits_at_once_leave_the_words_of_the_last_text(owner: User) -> None:
    videos = make_videos(3, owner)

    def edit(number: int) -> None:
        chance = random.Random(number)
        try:
            for _ in range(20):
                values = {"title": " ".join(chance.sample(["red", "kites", "over", "hills", "고양이"], 3))}
                if chance.random() < 0.3:
                    ledger.index_videos(videos)
                else:
                    services.edit_video(video_id=chance.choice(videos), values=values)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(edit, range(6)))
    assert words_are_right()


@pytest.mark.parametrize("ways", WAYS)
@pytest.mark.parametrize("by", ORDERS)
@pytest.mark.parametrize("falling", [True, False])
def test_every_way_finds_the_same_pages(
    owner: User, monkeypatch: pytest.MonkeyPatch, by: str, falling: bool, ways: str
) -> None:
    for name, value in WAYS[ways].items():
        monkeypatch.setattr(search, name, value)
    chance = random.Random(4)
    for i in range(30):
        title = " ".join(chance.sample(["red", "reds", "kites", "고양이", "고양", "👍", "over"], 3))
        make_video(owner, title=title, like_count=i % 3, view_count=i // 5, created_at=FIRST + timedelta(i // 2))
    sign = "-" if falling else ""
    ordered = list(Video.objects.order_by(f"{sign}{by}", f"{sign}id"))
    for text in ("red", "r", "red kites", "고양 over", "고양이", "고", "👍 reds", "kites kit", "none", "red none"):
        expected = [
            video.pk
            for video in ordered
            if all(
                any(
                    kept.startswith(word.text) if word.beginning else kept == word.text
                    for kept in words_of(video.title)
                )
                for word in words_to_find(text)
            )
        ]
        assert found(text, Window(by, falling, None, 99)) == expected
        assert found(text, Window(by, falling, None, 2)) == expected[:2]
        for place in (0, 7):
            if place < len(expected):
                video = Video.objects.get(pk=expected[place])
                beyond = getattr(video, by), video.pk
                assert found(text, Window(by, falling, beyond, 3)) == expected[place + 1 : place + 4]


def test_no_other_order_gets_into_a_search() -> None:
    with pytest.raises(ValueError, match="not ordered by title"):
        found("a", Window("title", True, None, 1))


@pytest.mark.only("mariadb", "mysql")
@pytest.mark.parametrize("text", ["rare", "common", "common rare", "고양이", "none", "c"])
def test_a_search_reads_few_of_many_rows(owner: User, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(search, "FEW", 100)
    monkeypatch.setattr(search, "SAMPLE", 300)
    make_videos(3000, owner)
    Video.objects.update(title="common")
    Video.objects.filter(pk__in=make_videos(3, owner)).update(title="common rare 고양이")

    def handled() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            return sum(int(number) for _, number in cursor.fetchall())

    before = handled()
    assert len(found(text, Window("created_at", True, None, 51))) == {"common": 51, "c": 51, "none": 0}.get(text, 3)
    own = handled()
    assert own - before < 1000


def test_a_search_that_takes_too_long_is_ended(owner: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make_videos(100, owner)
    settings.VIDEOS_SEARCH_SECONDS = 0.05
    tables = ", ".join(f"videos_videoword w{i}" for i in range(8))
    endless = f"SELECT COUNT(*) FROM {tables} WHERE w1.word < w7.word"  # noqa: S608
    with monkeypatch.context() as patch:
        patch.setattr(search._Search, "ids", lambda self: self._ask(endless, []))
        with pytest.raises(SearchTimeout):
            found("anything")
    settings.VIDEOS_SEARCH_SECONDS = 5
    assert len(found("1", Window("created_at", True, None, 50))) == 11
    assert VideoWord.objects.count() == 100
