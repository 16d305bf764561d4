"""Django admin: what is live beside what is stored. Counts are read only; a like is taken back through `services`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import NestedObjects
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.core.paginator import Paginator
from django.db import DatabaseError
from django.db.models import Model, Q, QuerySet, URLField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst

from videos import counters, flush, services
from videos.changes import MAX_ID
from videos.models import FlushBatch, Video, VideoHour, VideoLike

MAX_LISTED = 10_000  # rows that the pages of a list go through; what lies beyond is found by searching
MAX_MATCHES = 1000  # users and videos whose likes a search by name looks for


class QuickPaginator(Paginator):  # type: ignore[type-arg]  # no generic at run time
    """Counts MAX_LISTED rows at most: counting a million takes longer than reading a page of them."""

    @cached_property
    def count(self) -> int:
        """Rows, or MAX_LISTED where there are more."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:MAX_LISTED].count()


class QuickAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists that stay quick with millions of rows, and deletions that count likes instead of listing them."""

    paginator = QuickPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    # A JOIN makes MariaDB sort all rows for a page of 50: what a list names of other rows is read after it.
    list_select_related = ()
    related: ClassVar[Sequence[str]] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, and what they point to."""
        return super().get_queryset(request).prefetch_related(*self.related)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What the page asks to confirm: names, numbers by model, missing permissions, protected objects."""
        return deleted_objects(objs, request, self.admin_site)


class CountingCollector(NestedObjects):
    """Of likes and hours, of which a video may have half a million, it takes the number only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.numbers: dict[type[Model], int] = {}

    def related_objects(self, related_model: Any, related_fields: Any, objs: Any) -> QuerySet[Any]:
        """The rows that point to these."""
        rows = super().related_objects(related_model, related_fields, objs)
        if related_model in {VideoLike, VideoHour}:
            self.numbers[related_model] = self.numbers.get(related_model, 0) + rows.count()
            return rows.none()
        return rows


def deleted_objects(objs: Any, request: HttpRequest, site: admin.AdminSite) -> tuple[Any, Any, set[str], list[str]]:
    """As `django.contrib.admin.utils.get_deleted_objects`, with numbers for what is too much to list."""
    rows = list(objs)
    if not rows:
        return [], {}, set(), []
    collector = CountingCollector(using="default", origin=objs)
    collector.collect(rows)

    def name(row: Model) -> str:
        return f"{capfirst(str(row._meta.verbose_name))}: {row}"

    found: dict[Any, set[Any]] = dict(collector.model_objs)
    numbers: dict[Any, int] = {model: len(rows) for model, rows in found.items()} | collector.numbers
    missing = {
        str(model._meta.verbose_name)
        for model in found
        if site.is_registered(model) and not site.get_model_admin(model).has_delete_permission(request)
    }
    counts = {str(model._meta.verbose_name_plural): number for model, number in numbers.items() if number}
    return collector.nested(name), counts, missing, [name(row) for row in collector.protected]


class ReadOnlyAdmin(QuickAdmin):
    """Rows that only the flush writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes."""
        return False


class VideoChangeList(ChangeList):
    """A page of videos with their live counts, read at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, then what is live of it."""
        super().get_results(request)
        rows = list(self.result_list)
        _look_up_live(rows, request)
        self.result_list = rows


def _look_up_live(rows: Sequence[Video], request: HttpRequest) -> None:
    """Give each row its live counts, or none where they cannot be had."""
    stored = {row.pk: row.totals for row in rows}
    try:
        counts = services.overlay_totals(stored=stored, user_id=None)
    except services.Unavailable:
        counts = services.Counts({}, stored=True)
    if counts.stored and rows:
        messages.warning(request, "Redis does not answer: only the stored counts are shown.")
    for row in rows:
        row.live = None if counts.stored else counts.by_video.get(row.pk)  # type: ignore[attr-defined]


@admin.register(Video)
class VideoAdmin(QuickAdmin):
    """Videos, with the counts that users see beside those of the last flush."""

    list_display = ("title", "owner", "live_likes", "stored_likes", "live_views", "stored_views", "created_at")
    related = ("owner",)
    search_fields = ("title",)
    search_help_text = "Words of the title, or a video's id."
    ordering = ("-pk",)  # after a count that was chosen, as the index has it
    autocomplete_fields = ("owner",)
    formfield_overrides: ClassVar = {URLField: {"assume_scheme": "https"}}  # as Django 6.0 will by itself
    readonly_fields = ("live_likes", "stored_likes", "live_views", "stored_views", "flushed_batch", "created_at")
    actions = ("reconcile",)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """One that reads what is live."""
        return VideoChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row, with what is live of it."""
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            _look_up_live([row], request)
        return row

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """A video that was deleted meanwhile stays so: a plain save would add it again, with the counts it had."""
        try:
            obj.save(force_update=change)
        except DatabaseError as error:
            if error.__cause__ is not None:  # the database's own; without a cause it is Django's: no row was there
                raise
            raise Http404("This video was deleted meanwhile.") from error

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """By id where a number was given, else by title."""
        number = _id_in(search_term)
        if number is None:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(Q(pk=number) | Q(title__icontains=search_term.strip())), False

    @admin.display(description="live likes")
    def live_likes(self, video: Any) -> int | None:
        """Likes now."""
        return video.live.totals.likes if getattr(video, "live", None) else None

    @admin.display(description="stored likes", ordering="like_count")
    def stored_likes(self, video: Any) -> int:
        """Likes as of the last flush."""
        return int(video.like_count)

    @admin.display(description="live views")
    def live_views(self, video: Any) -> int | None:
        """Views now."""
        return video.live.totals.views if getattr(video, "live", None) else None

    @admin.display(description="stored views", ordering="view_count")
    def stored_views(self, video: Any) -> int:
        """Views as of the last flush."""
        return int(video.view_count)

    @admin.action(description="Reconcile selected videos", permissions=["change"])
    def reconcile(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Recount the likes of the selected videos from their rows, and repair what differs."""
        report = flush.reconcile(video_ids=queryset.values_list("pk", flat=True), repair=True)
        for found in report.differences[:20]:
            self.message_user(
                request,
                f"Video {found['video']}: {found['column']} was {found['stored']}, its rows are {found['counted']}. "
                "Repaired; the next flush sets the live count.",
                messages.WARNING,
            )
        outcome = f"{len(report.differences)} differences" if report.differences else "no difference"
        self.message_user(request, f"Recounted {report.videos} videos: {outcome}.")


@admin.register(VideoLike)
class VideoLikeAdmin(QuickAdmin):
    """Who likes what, as of the last flush. A like is taken back as its user would, so that the counts follow."""

    list_display = ("video", "user", "created_at")
    related = ("video", "user")
    search_fields = ("video__title", "user__username")
    search_help_text = "A video's or a user's id, a user's name, or the beginning of a video's title."
    ordering = ("-pk",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Likes are given by users."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A like has nothing to edit."""
        return False

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """By the indexes of likes: the names are looked up first, since a JOIN would read every like."""
        term = search_term.strip()
        if not term:
            return queryset, False
        users = get_user_model().objects.filter(username=term)
        videos = Video.objects.filter(title__istartswith=term)
        wanted = Q(user__in=list(users.values_list("pk", flat=True)[:MAX_MATCHES]))
        wanted |= Q(video__in=list(videos.values_list("pk", flat=True)[:MAX_MATCHES]))
        number = _id_in(term)
        if number is not None:
            wanted |= Q(video=number) | Q(user=number)
        return queryset.filter(wanted), False

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Outside of Django's transaction: while Redis is away the like is taken back in one of the ledger's own."""
        return self._told(request, lambda: self._delete_view(request, object_id, extra_context))  # type: ignore[attr-defined]

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        """What the action answers, or why it could not."""
        return self._told(request, lambda: super(VideoLikeAdmin, self).response_action(request, queryset))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Django logs before it deletes; `_take_back` logs what was taken back."""

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Take the like back."""
        self._take_back(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Take the likes back."""
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

    def _told(self, request: HttpRequest, answer: Callable[[], Any]) -> Any:
        try:
            return answer()
        except (services.Unavailable, services.VideoNotFound, services.UserNotFound) as error:
            self.message_user(request, f"Not taken back: {error.__doc__}", messages.ERROR)
            return HttpResponseRedirect(reverse("admin:videos_videolike_changelist", current_app=self.admin_site.name))


@admin.register(FlushBatch)
class FlushBatchAdmin(ReadOnlyAdmin):
    """What each flush moved, shard by shard."""

    list_display = (
        *("shard", "number", "claimed_at", "finished_at", "seconds", "fields", "applied", "repeated", "dropped"),
        *("rejected", "likes_added", "likes_removed", "views", "rewound"),
    )
    list_filter = (("finished_at", admin.EmptyFieldListFilter), "rewound")
    search_fields = ("=number",)
    ordering = ("-pk",)
    change_list_template = "videos/admin_batches.html"

    @admin.display(description="seconds")
    def seconds(self, batch: FlushBatch) -> float | None:
        """From the claim to the end; none while it runs, or where it was interrupted."""
        return round((batch.finished_at - batch.claimed_at).total_seconds(), 2) if batch.finished_at else None

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list, below what waits for the next flush."""
        try:
            status: flush.FlushStatus | None = flush.flush_status()
        except counters.CountersUnavailable:
            status = None
        return super().changelist_view(request, {**(extra_context or {}), "flush": status})


@admin.register(VideoHour)
class VideoHourAdmin(ReadOnlyAdmin):
    """What a video gained, hour by hour."""

    list_display = ("video_id", "hour", "likes", "views")
    search_fields = ("=video__id",)
    search_help_text = "A video's id."
    ordering = ("-pk",)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """By the video's id."""
        term = search_term.strip()
        return (queryset.filter(video=_id_in(term) or 0), False) if term else (queryset, False)


class QuickUserAdmin(UserAdmin):  # type: ignore[type-arg]
    """Django's, but a user's likes are counted before a deletion, not listed."""

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """As for videos."""
        return deleted_objects(objs, request, self.admin_site)


admin.site.unregister(get_user_model())
admin.site.register(get_user_model(), QuickUserAdmin)
admin.site.site_header = "Likes and views"
admin.site.site_title = "Likes and views"


def _id_in(text: str) -> int | None:
    text = text.strip()
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 19 else None
    return number if number is not None and number <= MAX_ID else None
