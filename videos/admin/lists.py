"""Pages that stay quick with millions of rows: lists; and deletions, which count likes and hours and list neither."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import NestedObjects
from django.core.paginator import Paginator
from django.db import router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from videos import services
from videos.changes import MAX_ID
from videos.models import TrendingVideo, VideoHour, VideoLike, VideoWord

MAX_LISTED = 10_000  # rows that the pages of a list reach; rows beyond are found by searching


class QuickPaginator(Paginator):  # type: ignore[type-arg]  # no generic at run time
    """Counts at most MAX_LISTED rows: counting a million takes longer than reading a page of them."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most MAX_LISTED."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:MAX_LISTED].count()


class CountedDeletions:
    """A ModelAdmin whose deletions count likes, hours and words instead of listing them."""

    admin_site: admin.AdminSite

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], list[str]]:
        """The names, numbers by model, missing permissions and protected objects on the page of confirmation."""
        rows = list(objs)
        if not rows:
            return [], {}, set(), []
        collector = _CountingCollector(using=router.db_for_write(type(rows[0])), origin=objs)
        collector.collect(rows)

        def name(row: Model) -> str:
            return f"{capfirst(str(row._meta.verbose_name))}: {row}"

        found: dict[Any, set[Any]] = dict(collector.model_objs)
        numbers: dict[Any, int] = {model: len(rows) for model, rows in found.items()} | collector.numbers
        site = self.admin_site
        missing = {
            str(model._meta.verbose_name)
            for model in found
            if site.is_registered(model) and not site.get_model_admin(model).has_delete_permission(request)
        }
        counts = {str(model._meta.verbose_name_plural): number for model, number in numbers.items() if number}
        return collector.nested(name), counts, missing, [name(row) for row in collector.protected]


class _CountingCollector(NestedObjects):
    """Collects the rows that a deletion would delete, and only the number of likes, hours and words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.numbers: dict[type[Model], int] = {}

    def related_objects(self, related_model: Any, related_fields: Any, objs: Any) -> QuerySet[Any]:
        """The rows that point to these objects."""
        rows = super().related_objects(related_model, related_fields, objs)
        if related_model is TrendingVideo:
            return rows.none()
        if related_model in {VideoLike, VideoHour, VideoWord}:
            self.numbers[related_model] = self.numbers.get(related_model, 0) + rows.count()
            return rows.none()
        return rows


class QuickAdmin(CountedDeletions, ModelAdmin):  # type: ignore[misc]  # its package has no types
    """Pages of a model that may have millions of rows."""

    paginator = QuickPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    # A JOIN makes MariaDB sort all rows for a page of 50, so the rows that a list points to are read after the page.
    list_select_related = ()
    related: ClassVar[Sequence[str]] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, and those that they point to. A replica may not have yet what was saved on the page before."""
        return super().get_queryset(request).using(router.db_for_write(self.model)).prefetch_related(*self.related)

    @services.own_transactions
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Django's list. Its actions take likes back and recount, which commit what they write."""
        return super().changelist_view(request, extra_context)

    @services.own_transactions
    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Django's page, which makes a transaction of its own."""
        return super().delete_view(request, object_id, extra_context)


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
