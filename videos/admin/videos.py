"""Videos, with the counts that users see beside those of the last flush."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.db.models import QuerySet, URLField
from django.http import Http404, HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from videos import flush, services
from videos.admin.lists import DaysFilter, QuickAdmin, QuickChangeList, parse_id
from videos.admin.shown import NAMES, Chart, chart, moment, name_of, number, unit_of
from videos.changes import COUNTS, HOUR_MS, HOUR_SECONDS, PLACES, CountName
from videos.changes import moment as moment_of
from videos.models import Video

DAY_HOURS = 24
MAX_FOUND = 1_000  # videos that a search lists


class VideoChangeList(QuickChangeList):
    """A page of videos with their live counts, read at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, then the live counts of its videos."""
        super().get_results(request)
        rows = list(self.result_list)  # type: ignore[has-type]
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


def _column_of(count: CountName) -> Callable[[Any], SafeString]:
    def counted(video: Any) -> SafeString:
        live = getattr(video, "live", None)
        stored = int(getattr(video, count.column))
        if live is not None and live[PLACES[count.name]] == stored:
            return format_html('<span class="one-line">{}</span>', number(stored))
        shown = number(None if live is None else live[PLACES[count.name]])
        told = _("stored: %s") % number(stored)
        return format_html('<span class="one-line">{} <span class="stored-number">{}</span></span>', shown, told)

    counted.__name__ = f"counted_{count.name}"  # the column's name
    return admin.display(counted, description=NAMES.get(count.name, count.name), ordering=count.column)


COUNT_COLUMNS: tuple[Any, ...] = tuple(map(_column_of, COUNTS))


def _charts_of(video_id: int) -> list[list[Chart]]:
    """What the video gained, what waits for the flush included: a chart of each count, by day and by hour."""
    spans = (
        (_("%s, last 30 days (UTC)"), DAY_HOURS, 30, "%Y-%m-%d"),
        (_("%s, last 48 hours (UTC)"), 1, 48, "%Y-%m-%d %H:00"),
    )
    now = int(datetime.now(UTC).timestamp()) // HOUR_SECONDS
    charts = []
    for title, hours, steps, form in spans:
        end = now - now % hours + hours
        try:
            found = services.video_history(video_id=video_id, bounds=range(end - hours * steps, end + 1, hours)).steps
        except services.VideoNotFound:
            return []
        begins = [moment_of(step.begin * HOUR_MS) for step in found]
        charts.append([
            chart(
                capfirst(title % name_of(count)), unit_of(count),
                [(f"{begin:{form}}", step.gains[place]) for begin, step in zip(begins, found, strict=True)],
            )
            for place, count in enumerate(COUNTS)
        ])  # fmt: skip
    return charts


@admin.register(Video)
class VideoAdmin(QuickAdmin):
    """Videos."""

    list_display = ("title", "owner", *COUNT_COLUMNS, "created")
    list_filter = (("created_at", DaysFilter),)
    list_filter_submit = True
    related = ("owner",)
    search_fields = ("title",)
    search_help_text = _("Words, an owner's name, or an id")
    ordering = ("-pk",)  # comes after a count that the user sorts by, as in that count's index
    raw_id_fields = ("owner",)
    formfield_overrides: ClassVar = {URLField: {"assume_scheme": "https"}}  # the default of Django 6.0
    fields = ("title", "description", "url", "duration", "owner")
    actions = ("reconcile",)
    change_form_before_template = "videos/admin_video.html"

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """The owner, if the user model has a page with a search; else the owner's id is typed in."""
        user = get_user_model()
        page = self.admin_site.get_model_admin(user) if self.admin_site.is_registered(user) else None
        return ("owner",) if page is not None and page.get_search_fields(request) else ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Any]:
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
        """At most MAX_FOUND videos with these words, or of this owner; and the one of this id."""
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = parse_id(term)
        try:
            found = services.find_videos(text=term, most=MAX_FOUND)
        except services.SearchTimeout as error:
            self.message_user(request, str(error), messages.ERROR)
            found = []
        if len(found) >= MAX_FOUND:
            self.message_user(request, gettext("Only the newest %s that were found are listed.") % MAX_FOUND)
        return queryset.filter(pk__in=[*found, *([] if wanted is None else [wanted])]), False

    @admin.display(description=_("created"), ordering="created_at")
    def created(self, video: Any) -> SafeString:
        """With seconds and zone."""
        return format_html('<span class="one-line">{}</span>', moment(video.created_at))

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Django's page, below the video's counts and its history."""
        wanted = None if object_id is None else parse_id(object_id)
        counted = {} if wanted is None or request.method != "GET" else {"charts": _charts_of(wanted)}
        return super().changeform_view(request, object_id, form_url, {**(extra_context or {}), **counted})

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **options: Any) -> Any:
        """Django's, with a row of the table of counts for each of COUNTS."""
        video = context.get("original")
        if video is not None:
            live = getattr(video, "live", None)
            context["counted"] = [
                (
                    name_of(count),
                    number(None if live is None else live[place]),
                    number(stored),
                    number(None if live is None else live[place] - stored),
                )
                for place, count in enumerate(COUNTS)
                for stored in [int(getattr(video, count.column))]
            ]
            context["created"] = moment(video.created_at)
            context["permitted"] = [
                name for name in ("videolike", "videohour") if request.user.has_perm(f"videos.view_{name}")
            ]
        return super().render_change_form(request, context, *args, **options)

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
