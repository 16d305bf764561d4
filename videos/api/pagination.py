"""Pages that neither skip nor repeat items: each begins after the value and id of the last item before it."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, NamedTuple, Self, TypeVar

from rest_framework.exceptions import ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.utils.urls import replace_query_param

from videos.changes import EPOCH, MAX_ID, ORDERS
from videos.services import Window

Item = TypeVar("Item")


class Position(NamedTuple):
    """The position of an item: the value that orders the pages, and the id that orders equal values."""

    value: Any  # a whole number or a datetime
    tie: int


class Cursor(NamedTuple):
    """A page begins just after a position, or, going back, just before it."""

    position: Position
    back: bool = False

    def encode(self) -> str:
        """The cursor as text for a URL; times in Unix microseconds."""
        value, tie = self.position
        number = (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value
        return urlsafe_b64encode(json.dumps([number, tie, int(self.back)]).encode()).decode()

    @classmethod
    def decode(cls, text: str, *, is_time: bool) -> Self:
        """The cursor of a URL. Raises ValueError, TypeError or OverflowError for a text that `encode` did not make."""
        number, tie, back = json.loads(urlsafe_b64decode(text.encode("ascii")))
        if any(type(whole) is not int or abs(whole) > MAX_ID for whole in (number, tie, back)):
            raise ValueError("not a position")
        return cls(Position(EPOCH + timedelta(microseconds=number) if is_time else number, tie), back=bool(back))


class KeysetPagination(CursorPagination):
    """Cursor pages over (value, id).

    Django REST framework's cursor orders equal values by an offset of at most 1,000. Among a million videos without a
    like it would repeat one page for ever, and a deep offset reads all rows that it skips.
    """

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 100
    invalid_cursor_message = "Invalid cursor."
    orderings: ClassVar[Sequence[str]] = ("-created_at",)
    columns: ClassVar[Mapping[str, str]] = {}  # of orderings that are not named as their columns

    def begin(self, query: Mapping[str, str], uri: str) -> Window:
        """The items to read for a query's page, and one more, which tells whether there is another page.

        `uri` is the absolute address, for links to other pages. Raises ValidationError.
        """
        self._uri = uri
        ordering = query.get("ordering", self.orderings[0]) if len(self.orderings) > 1 else self.orderings[0]
        if ordering not in self.orderings:
            raise ValidationError({"ordering": [f"Must be one of {', '.join(self.orderings)}."]})
        size = query.get(self.page_size_query_param, str(self.page_size))
        if not (size.isascii() and size.isdecimal() and len(size) < 10 and 1 <= int(size) <= self.max_page_size):
            raise ValidationError({"page_size": [f"Must be a number from 1 to {self.max_page_size}."]})
        ordering = self.columns.get(ordering, ordering)
        by = ordering.removeprefix("-")
        text = query.get(self.cursor_query_param)
        try:
            self._cursor = Cursor.decode(text, is_time=by == "created_at") if text else None
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ValidationError({self.cursor_query_param: [self.invalid_cursor_message]}) from error
        self._size, self._back = int(size), self._cursor is not None and self._cursor.back
        falling = ordering.startswith("-") != self._back
        return Window(by, falling, self._cursor and self._cursor.position, self._size + 1)

    def end(self, nearest: Sequence[Item], position: Callable[[Item], Position]) -> Sequence[Item]:
        """The page's items, among the items of its Window."""
        more, items = len(nearest) > self._size, nearest[: self._size]
        if self._back:
            items = items[::-1]
        has_next = bool(items) and (self._back or more)
        has_previous = bool(items) and (more if self._back else self._cursor is not None)
        self._next = Cursor(position(items[-1])) if has_next else None
        self._previous = Cursor(position(items[0]), back=True) if has_previous else None
        return items

    def page_data(self, results: Any) -> dict[str, Any]:
        """The answer's body: links to the pages beside it, and the cursor of the next one alone."""
        return {
            "next": self._link(self._next),
            "previous": self._link(self._previous),
            "next_cursor": self._next and self._next.encode(),
            "results": results,
        }

    def _link(self, cursor: Cursor | None) -> str | None:
        return cursor and replace_query_param(self._uri, self.cursor_query_param, cursor.encode())

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "nullable": True, "format": "uri", "description": "null where there is no such page."}
        return {
            "type": "object",
            "required": ["next", "previous", "next_cursor", "results"],
            "properties": {
                "next": link,
                "previous": link,
                "next_cursor": {"type": "string", "nullable": True, "description": "`cursor` of the next page."},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Django REST framework's two parameters, with the bounds of a page's size."""
        cursor, size = super().get_schema_operation_parameters(view)
        size["schema"] |= {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        cursor["schema"] |= {"format": "cursor"}
        cursor["description"] = "From `next` or `previous` of a page; others are refused."
        return [cursor, size]


class VideoPagination(KeysetPagination):
    """Pages of videos. Pages by a count are ordered as of the last flush."""

    columns: ClassVar[Mapping[str, str]] = {"trending": "-by_day"}
    orderings = (*(f"{sign}{column}" for sign in ("-", "") for column in ORDERS), *columns)


class TrendingPagination(KeysetPagination):
    """Pages of videos that trend, in the window of a day."""

    orderings = ("-by_day",)


class WeekPagination(TrendingPagination):
    """The same in the window of a week."""

    orderings = ("-by_week",)


TRENDING: Final[Mapping[str, type[TrendingPagination]]] = {"day": TrendingPagination, "week": WeekPagination}
