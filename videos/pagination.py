"""Pages that neither skip nor repeat: each begins where the one before it ended, by value and id."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeVar

from django.db.models import Q, QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from videos import services
from videos.changes import MAX_ID
from videos.services import VideoRow

Item = TypeVar("Item")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Position(NamedTuple):
    """Where an item stands: the value that pages are ordered by, and the id that orders equal values."""

    value: Any  # a whole number or a datetime
    tie: int


class Cursor(NamedTuple):
    """A page begins just after a position, or, going back, just before it."""

    position: Position
    back: bool = False

    def encode(self) -> str:
        """The cursor as it stands in a URL; times in Unix microseconds."""
        value, tie = self.position
        number = (value - EPOCH) // timedelta(microseconds=1) if isinstance(value, datetime) else value
        return urlsafe_b64encode(json.dumps([number, tie, int(self.back)]).encode()).decode()

    @classmethod
    def decode(cls, text: str, *, is_time: bool) -> Cursor:
        """The cursor of a URL. Raises ValueError, TypeError or OverflowError for what `encode` did not make."""
        number, tie, back = json.loads(urlsafe_b64decode(text.encode("ascii")))
        if any(type(whole) is not int or abs(whole) > MAX_ID for whole in (number, tie, back)):
            raise ValueError("not a position")
        return cls(Position(EPOCH + timedelta(microseconds=number) if is_time else number, tie), back=bool(back))


class Query(Protocol):
    """What pages need of a request."""

    @property
    def query_params(self) -> Mapping[str, str]:
        """What stands behind the question mark."""

    def build_absolute_uri(self) -> str:
        """The whole address."""


class KeysetPagination(CursorPagination):
    """Cursor pages over (value, id).

    Django REST framework's own count equal values with an offset that ends at 1,000, so that a million videos without a
    like would repeat one page for ever; and its deep offsets cost what they skip.
    """

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 100
    invalid_cursor_message = "Invalid cursor."
    orderings: ClassVar[Sequence[str]] = ("-created_at",)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """The rows of the page that the request asks for. Raises ValidationError for a cursor that we did not make."""
        ordering = self._ordering_of(request)
        field = ordering.removeprefix("-")
        size, cursor = self._begin(request, is_time=field == "created_at")
        rows = self._nearest(queryset, field, "id", cursor, size, descending=ordering.startswith("-"))
        return self._end(rows, lambda row: Position(getattr(row, field), row.id), cursor, size)

    def paginate_merged(
        self, queryset: QuerySet[Any], additions: Mapping[int, datetime], request: Request, *, tie: str
    ) -> list[Position]:
        """Positions (created_at, tie), newest first, of rows and of `additions` that are not among them."""
        size, cursor = self._begin(request, is_time=True)
        back = cursor is not None and cursor.back
        positions = [
            Position(*row)
            for row in self._nearest(queryset.values_list("created_at", tie), "created_at", tie, cursor, size)
        ]
        added = (Position(at, key) for key, at in additions.items())
        positions += [
            position
            for position in added
            if cursor is None or (position > cursor.position if back else position < cursor.position)
        ]
        positions.sort(reverse=not back)
        return self._end(positions[: size + 1], lambda position: position, cursor, size)

    def get_paginated_response(self, data: Any) -> Response:
        """`{next, previous, results}`."""
        return Response(self.page_data(data))

    def page_data(self, results: Any) -> dict[str, Any]:
        """The same before it is an answer."""
        return {"next": self._link(self.next), "previous": self._link(self.previous), "results": results}

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The same, as OpenAPI has it."""
        link = {"type": "string", "nullable": True, "format": "uri", "description": "null where there is no such page."}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Django REST framework's two, with the bounds of a page's size."""
        cursor, size = super().get_schema_operation_parameters(view)
        size["schema"] |= {"minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return [cursor, size]

    def _begin(self, request: Query, *, is_time: bool) -> tuple[int, Cursor | None]:
        self.base_url: str = request.build_absolute_uri()
        size = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not (size.isascii() and size.isdecimal() and len(size) < 10 and 1 <= int(size) <= self.max_page_size):
            raise ValidationError({"page_size": [f"Must be a number from 1 to {self.max_page_size}."]})
        text = request.query_params.get(self.cursor_query_param)
        try:
            return int(size), Cursor.decode(text, is_time=is_time) if text else None
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ValidationError({self.cursor_query_param: [self.invalid_cursor_message]}) from error

    def _ordering_of(self, request: Query) -> str:
        ordering = request.query_params.get("ordering", self.orderings[0])
        if ordering not in self.orderings:
            raise ValidationError({"ordering": [f"Must be one of {', '.join(self.orderings)}."]})
        return str(ordering)

    def _nearest(
        self,
        queryset: QuerySet[Any],
        field: str,
        tie: str,
        cursor: Cursor | None,
        size: int,
        *,
        descending: bool = True,
    ) -> list[Any]:
        """The page's rows and one beyond it, nearest to the cursor first."""
        falling = descending != (cursor is not None and cursor.back)
        if cursor is not None:
            compare = "lt" if falling else "gt"
            value = cursor.position.value
            beyond = Q((f"{field}__{compare}", value)) | Q((field, value), (f"{tie}__{compare}", cursor.position.tie))
            # The first condition lets SQLite walk the index from there on; the second is two ranges of it to MySQL.
            queryset = queryset.filter(Q((f"{field}__{compare}e", value)) & beyond)
        sign = "-" if falling else ""
        return list(queryset.order_by(f"{sign}{field}", f"{sign}{tie}")[: size + 1])

    def _end(
        self, nearest: list[Item], position: Callable[[Item], Position], cursor: Cursor | None, size: int
    ) -> list[Item]:
        back = cursor is not None and cursor.back
        more, items = len(nearest) > size, nearest[:size]
        if back:
            items.reverse()
        has_next = bool(items) and (back or more)
        has_previous = bool(items) and (more if back else cursor is not None)
        self.next = Cursor(position(items[-1])) if has_next else None
        self.previous = Cursor(position(items[0]), back=True) if has_previous else None
        return items

    def _link(self, cursor: Cursor | None) -> str | None:
        return cursor and replace_query_param(self.base_url, self.cursor_query_param, cursor.encode())


class VideoPagination(KeysetPagination):
    """Pages of videos. Those by counts are ordered as the database has them: as of the last flush."""

    orderings = ("-created_at", "-like_count", "-view_count", "created_at", "like_count", "view_count")

    def paginate_all(self, request: Query) -> list[VideoRow]:
        """The page of all videos that the request asks for. Raises ValidationError, services.Unavailable."""
        ordering = self._ordering_of(request)
        field = ordering.removeprefix("-")
        size, cursor = self._begin(request, is_time=field == "created_at")
        falling = ordering.startswith("-") != (cursor is not None and cursor.back)
        beyond = None if cursor is None else cursor.position
        rows = services.nearest_videos(by=field, falling=falling, beyond=beyond, most=size + 1)
        return self._end(rows, lambda row: Position(row.value_of(field), row.id), cursor, size)
