"""What a soak would find: its book against rows that differ, and the schedule of its faults."""

import pytest

from tests.soak.book import Book
from tests.soak.faults import KINDS, TARGETS, schedule
from tests.soak.memory import kind_of

pytestmark = pytest.mark.once


@pytest.fixture
def book() -> Book:
    """User 9 likes video 1; what user 8 wished last is open; 2 views of video 1 are acknowledged, one more is open."""
    book = Book()
    book.acknowledge_wish((1, 9), liked=True)
    book.acknowledge_wish((1, 8), liked=True)
    book.leave_open((1, 8), liked=False)
    book.views[1], book.open_views[1] = 2, 1
    return book


@pytest.mark.parametrize(("liking", "views"), [({(1, 9), (1, 8)}, 2), ({(1, 9)}, 3)])
def test_rows_that_may_be_are_not_reported(book: Book, liking: set[tuple[int, int]], views: int) -> None:
    assert book.differences(liking, {1: views}) == []


@pytest.mark.parametrize(
    ("liking", "views", "found"),
    [
        (set(), 2, "user 9: acknowledged True, the row says False"),
        ({(1, 9), (1, 7)}, 2, "user 7: acknowledged None, the row says True"),
        ({(1, 9)}, 1, "1 views stored, 2 to 3 acknowledged"),
        ({(1, 9)}, 4, "4 views stored, 2 to 3 acknowledged"),
    ],
)
def test_rows_that_cannot_be_are_reported(book: Book, liking: set[tuple[int, int]], views: int, found: str) -> None:
    (difference,) = book.differences(liking, {1: views})
    assert found in difference


def test_an_acknowledged_wish_closes_the_open_ones_before_it(book: Book) -> None:
    book.acknowledge_wish((1, 8), liked=True)
    assert book.possible((1, 8)) == {True}


def test_a_seed_makes_one_schedule() -> None:
    assert schedule(5, 300, "mariadb") == schedule(5, 300, "mariadb") != schedule(6, 300, "mariadb")


def test_two_minutes_have_every_fault() -> None:
    faults = schedule(5, 120, "mariadb")
    assert {(fault.target, fault.kind) for fault in faults} == {(target, kind) for target in TARGETS for kind in KINDS}


def test_a_key_is_sorted_by_its_kind() -> None:
    names = (b"{videos:7}:live:42", b"{user:9}:recent", b"{videos:7}:pending", b"videos:flushed")
    assert [kind_of(name) for name in names] == ["live", "recent", "pending", "videos:flushed"]
