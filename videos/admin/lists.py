"""Lists that stay quick with millions of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from videos.admin.deletions import CountedDeletions
from videos.changes import MAX_ID

MAX_LISTED = 10_000  # rows that the pages of a list reach; rows beyond are found by searching


class QuickPaginator(Paginator):  # type: ignore[type-arg]  # no generic at run time
    """Counts at most MAX_LISTED rows: counting a million takes longer than reading a page of them."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most MAX_LISTED."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:MAX_LISTED].count()


class QuickAdmin(CountedDeletions, admin.ModelAdmin):  # type: ignore[type-arg]
    """Pages of a model that may have millions of rows."""

    paginator = QuickPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    # A JOIN makes MariaDB sort all rows for a page of 50, so the rows that a list points to are read after the page.
    list_select_related = ()
    related: ClassVar[Sequence[str]] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, and those that they point to."""
        return super().get_queryset(request).prefetch_related(*self.related)


def forbid(self: Any, request: HttpRequest, obj: Any = None) -> bool:
    """A permission that no user has."""
    return False


class ReadOnlyAdmin(QuickAdmin):
    """Pages of rows that only the flush writes."""

    has_add_permission = has_change_permission = has_delete_permission = forbid


def parse_id(text: str) -> int | None:
    """The id in a search; None where the text is no number, or too large for an id."""
    text = text.strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 19 else None
    return number if number is not None and number <= MAX_ID else None
