"""Batches and hours, which the flush writes."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from videos import flush
from videos.admin.lists import ReadOnlyAdmin, parse_id
from videos.changes import COUNTS, SUM_COLUMNS, FieldSums
from videos.models import FlushBatch, VideoHour


@admin.register(FlushBatch)
class FlushBatchAdmin(ReadOnlyAdmin):
    """What each flush moved, shard by shard."""

    list_display = (
        *("shard", "number", "claimed_at", "finished_at", "seconds"),
        *("fields", *FieldSums._fields, *SUM_COLUMNS, "rewound"),
    )
    list_filter = (("finished_at", admin.EmptyFieldListFilter), "rewound")
    search_fields = ("=number",)
    ordering = ("-pk",)
    change_list_template = "videos/admin_batches.html"

    @admin.display(description="seconds")
    def seconds(self, batch: FlushBatch) -> float | None:
        """From the claim to the end; None while the batch is not finished."""
        return round((batch.finished_at - batch.claimed_at).total_seconds(), 2) if batch.finished_at else None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, below the state of the flush."""
        try:
            status: flush.FlushStatus | None = flush.read_status()
        except flush.CountersUnavailable:
            status = None
        return super().changelist_view(request, {**(extra_context or {}), "flush": status})


@admin.register(VideoHour)
class VideoHourAdmin(ReadOnlyAdmin):
    """What a video gained, hour by hour."""

    list_display = ("video_id", "hour", *(count.name for count in COUNTS))
    search_fields = ("=video__id",)
    search_help_text = "A video's id."
    ordering = ("-pk",)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        term = search_term.strip()
        return (queryset.filter(video=parse_id(term) or 0), False) if term else (queryset, False)
