"""Pages that stay quick with millions of rows: lists; and deletions, which count likes and hours and list neither."""

import contextlib
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import NestedObjects
from django.core.paginator import Paginator
from django.db import router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_date
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.timezone import make_aware
from django.utils.translation import gettext
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.views import ChangeList

from videos import services
from videos.admin.shown import number
from videos.changes import MAX_ID
from videos.models import TrendingVideo, VideoHour, VideoLike, VideoWord

MAX_NAMED = 50  # rows that the page of a deletion lists by name
MAX_LISTED = 10_000  # rows that the pages of a list reach; rows beyond are found by searching


class DaysFilter(RangeDateFilter):  # type: ignore[misc]  # its package has no types
    """From one day to another, both whole, in the zone of the pages."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of these days; a text that is no day counts as none."""
        ends: dict[str, datetime] = {}
        for end, compare, more in (("from", "gte", 0), ("to", "lt", 1)):
            with contextlib.suppress(ValueError):
                day = parse_date(self.used_parameters.get(f"{self.parameter_name}_{end}", ""))
                if day is not None:
                    at = datetime.combine(day + timedelta(days=more), time())
                    ends[f"{self.parameter_name}__{compare}"] = make_aware(at) if settings.USE_TZ else at
        return queryset.filter(**ends)


def told(counted: int) -> str:
    """A number of rows that were counted up to one more than MAX_LISTED."""
    return gettext("more than %s") % number(MAX_LISTED) if counted > MAX_LISTED else number(counted)


class QuickPaginator(Paginator):  # type: ignore[type-arg]  # no generic at run time
    """Counts at most MAX_LISTED rows: counting a million takes longer than reading a page of them."""

    template_name = "videos/admin_pagination.html"

    @cached_property
    def count(self) -> int:
        """The number of rows, at most MAX_LISTED."""
        return min(self._counted, MAX_LISTED)

    @cached_property
    def _counted(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[: MAX_LISTED + 1].count()

    @property
    def told(self) -> str:
        """How many rows there are, in words where they are more than were counted."""
        return told(self._counted)


class CountedDeletions:
    """A ModelAdmin whose deletions count likes, hours and words instead of listing them."""

    delete_confirmation_template: ClassVar[Any] = "videos/admin_delete.html"

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
        numbers: dict[Any, int] = {model: len(some) for model, some in found.items()} | collector.numbers
        site = self.admin_site
        missing = {
            str(model._meta.verbose_name)
            for model in found
            if site.is_registered(model) and not site.get_model_admin(model).has_delete_permission(request)
        }
        counts = {str(model._meta.verbose_name_plural): told(amount) for model, amount in numbers.items() if amount}
        listed = collector.nested(name)
        if len(rows) == 1 and len(listed) > 1 and len(listed[1]) > MAX_NAMED:
            listed[1] = [*listed[1][:MAX_NAMED], gettext("and %s more") % number(len(listed[1]) - MAX_NAMED)]
        return listed, counts, missing, [name(row) for row in collector.protected]


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
            counted = rows[: MAX_LISTED + 1].count()
            self.numbers[related_model] = self.numbers.get(related_model, 0) + counted
            return rows.none()
        return rows


class QuickChangeList(ChangeList):  # type: ignore[misc]  # its package has no types
    """A list whose number of rows stands below it, where it says "more than"; unfold's header would say it again."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count


class QuickAdmin(CountedDeletions, ModelAdmin):  # type: ignore[misc]  # its package has no types
    """Pages of a model that may have millions of rows."""

    paginator = QuickPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_disable_select_all = True  # an action works in one request, so on the rows of a page
    list_fullwidth = True
    # A JOIN makes MariaDB sort all rows for a page of 50, so the rows that a list points to are read after the page.
    list_select_related = ()
    related: ClassVar[Sequence[str]] = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Any]:
        """Django's hook."""
        return QuickChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, and those that they point to. A replica may not have yet what was saved on the page before."""
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.using(router.db_for_write(self.model)).prefetch_related(*self.related)

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
