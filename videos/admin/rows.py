"""Rows that the flush writes: likes, hours, batches. Deleting a like unlikes the video for its user."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import router, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from videos import flush, services
from videos.admin.lists import QuickAdmin, ReadOnlyAdmin, forbid, parse_id
from videos.changes import COUNTS, SUM_COLUMNS, FieldSums
from videos.models import FlushBatch, VideoHour, VideoLike

MAX_MATCHES = 1000  # users and videos whose likes a search by name shows


@admin.register(VideoLike)
class VideoLikeAdmin(QuickAdmin):
    """Who likes what, as of the last flush."""

    list_display = ("video", "user", "created_at")
    related = ("video", "user")
    search_fields = ("video__title", f"user__{get_user_model().USERNAME_FIELD}")
    search_help_text = "A video's or a user's id, a user's name, or the beginning of a video's title."
    ordering = ("-pk",)

    has_add_permission = has_change_permission = forbid  # users like through the API; a like has nothing to edit

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """Search by ids, which have indexes. Names are looked up first, because a JOIN would read every like."""
        term = search_term.strip()
        if not term:
            return queryset, False
        user_ids, video_ids = services.ids_by_name(name=term, most=MAX_MATCHES)
        wanted = Q(user__in=user_ids) | Q(video__in=video_ids)
        number = parse_id(term)
        if number is not None:
            wanted |= Q(video=number) | Q(user=number)
        return queryset.filter(wanted), False

    @services.own_transactions
    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Django's page, or the list with the reason why the like was not taken back."""
        view = super().delete_view
        return self._or_reason(request, lambda: view(request, object_id, extra_context))

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """The action's answer, or the list with the reason why the likes were not taken back."""
        act = super().response_action
        return self._or_reason(request, lambda: act(request, queryset))

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """The list, without Django's message: the row may go with the next flush only."""
        return self._redirect_to_list()

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Nothing yet: Django logs before it deletes. `_take_back` logs the likes that were taken back."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Take the like back after Django's transaction: without Redis the ledger needs one of its own."""
        transaction.on_commit(lambda: self._take_back(request, [obj]), using=router.db_for_write(self.model))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        self._take_back(request, list(queryset))

    def _take_back(self, request: HttpRequest, likes: Sequence[Any]) -> None:
        taken: list[Any] = []
        stored = True
        try:
            for like in likes:
                stored &= services.set_like(video_id=like.video_id, user_id=like.user_id, liked=False).stored
                taken.append(like)
        finally:
            if taken:
                super().log_deletions(request, taken)  # type: ignore[arg-type]
                rows = "Redis is away, so the rows are gone already" if stored else "the rows go with the next flush"
                self.message_user(request, f"{len(taken)} taken back; {rows}.", messages.INFO)

    def _or_reason(self, request: HttpRequest, answer: Callable[[], Any]) -> Any:
        try:
            return answer()
        except (services.Unavailable, services.VideoNotFound, services.UserNotFound) as error:
            self.message_user(request, f"Not taken back: {error}", messages.ERROR)
            return self._redirect_to_list()

    def _redirect_to_list(self) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:videos_videolike_changelist", current_app=self.admin_site.name))


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

    @services.own_transactions
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
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
