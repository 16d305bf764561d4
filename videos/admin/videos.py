"""Videos, with the counts that users see beside those of the last flush."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.db.models import Q, QuerySet, URLField
from django.http import Http404, HttpRequest

from videos import flush, services
from videos.admin.lists import QuickAdmin, parse_id
from videos.changes import COUNTS, PLACES, CountName
from videos.models import Video


class VideoChangeList(ChangeList):
    """A page of videos with their live counts, read at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, then the live counts of its videos."""
        super().get_results(request)
        rows = list(self.result_list)
        _read_live(rows, request)
        self.result_list = rows


def _read_live(rows: Sequence[Any], request: HttpRequest) -> None:
    """Give each row its live totals as `live`, or None while Redis is away."""
    try:
        counts = services.overlay_rows(rows=rows, user_id=None)
    except services.Unavailable:
        counts = services.Counts({}, stored=True)
    if counts.stored and rows:
        messages.warning(request, "Redis does not answer: only the stored counts are shown.")
    for row in rows:
        row.live = None if counts.stored else counts.by_video[row.pk].totals


def _columns_of(count: CountName) -> Iterator[Callable[[Any], int | None]]:
    def live(video: Any) -> int | None:
        totals = getattr(video, "live", None)  # a video that is being added has none
        return None if totals is None else int(totals[PLACES[count.name]])

    def stored(video: Any) -> int:
        return int(getattr(video, count.column))

    live.__name__, stored.__name__ = f"live_{count.name}", f"stored_{count.name}"  # classes in the page's HTML
    yield admin.display(live, description=f"live {count.name}")
    yield admin.display(stored, description=f"stored {count.name}", ordering=count.column if count.orders else None)


COUNT_COLUMNS: tuple[Any, ...] = tuple(column for count in COUNTS for column in _columns_of(count))


@admin.register(Video)
class VideoAdmin(QuickAdmin):
    """Videos."""

    list_display = ("title", "owner", *COUNT_COLUMNS, "created_at")
    related = ("owner",)
    search_fields = ("title",)
    search_help_text = "Words of the title, or a video's id."
    ordering = ("-pk",)  # comes after a count that the user sorts by, as in that count's index
    raw_id_fields = ("owner",)
    formfield_overrides: ClassVar = {URLField: {"assume_scheme": "https"}}  # the default of Django 6.0
    readonly_fields = (*COUNT_COLUMNS, "flushed_batch", "created_at")
    actions = ("reconcile",)

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """The owner, if the user model has a page with a search; else the owner's id is typed in."""
        user = get_user_model()
        page = self.admin_site.get_model_admin(user) if self.admin_site.is_registered(user) else None
        return ("owner",) if page is not None and page.get_search_fields(request) else ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return VideoChangeList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        if row is not None:
            _read_live([row], request)
        return row

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save. An edited video that was deleted meanwhile is not found: a plain save would insert it again."""
        try:
            obj.save(force_update=change)
        except DatabaseError as error:
            if error.__cause__ is not None:  # from the database; Django's error for a missing row has no cause
                raise
            raise Http404("This video was deleted meanwhile.") from error

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """By id or title where a number was given, else by title."""
        number = parse_id(search_term)
        if number is None:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(Q(pk=number) | Q(title__icontains=search_term.strip())), False

    @admin.action(description="Reconcile selected videos", permissions=["change"])
    def reconcile(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Recount the likes of the selected videos from their rows, and repair what differs."""
        try:
            report = flush.reconcile(video_ids=queryset.values_list("pk", flat=True), repair=True)
        except flush.CountersUnavailable as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        for found in report.differences[:20]:
            self.message_user(
                request,
                f"Video {found['video']}: {found['column']} was {found['stored']}, its rows are {found['counted']}. "
                "Repaired; the next flush sets the live count.",
                messages.WARNING,
            )
        outcome = f"{len(report.differences)} differences" if report.differences else "no difference"
        self.message_user(request, f"Recounted {report.videos} videos: {outcome}.")
