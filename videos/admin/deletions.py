"""Deletions. A video may have half a million likes and hours, so the page counts them instead of listing them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import NestedObjects
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst

from videos.models import VideoHour, VideoLike


class CountedDeletions:
    """A ModelAdmin whose deletions count likes and hours instead of listing them."""

    admin_site: admin.AdminSite

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], list[str]]:
        """The names, numbers by model, missing permissions and protected objects on the page of confirmation."""
        rows = list(objs)
        if not rows:
            return [], {}, set(), []
        collector = _CountingCollector(using="default", origin=objs)
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
    """Collects the rows that a deletion would delete, and only the number of likes and hours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.numbers: dict[type[Model], int] = {}

    def related_objects(self, related_model: Any, related_fields: Any, objs: Any) -> QuerySet[Any]:
        """The rows that point to these objects."""
        rows = super().related_objects(related_model, related_fields, objs)
        if related_model in {VideoLike, VideoHour}:
            self.numbers[related_model] = self.numbers.get(related_model, 0) + rows.count()
            return rows.none()
        return rows
