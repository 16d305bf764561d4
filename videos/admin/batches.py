"""Batches of the flush, and what an administrator may do about it: flush now, acknowledge what went wrong."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from videos import flush, services
from videos.admin.lists import ReadOnlyAdmin
from videos.admin.shown import NAMES, duration, gains, moment, number
from videos.changes import COUNTS, CountName
from videos.models import FlushBatch

FLUSH_SECONDS = 20.0  # after which a flush that the admin began leaves the rest to the next one
MAY_FLUSH = "videos.change_flushbatch"  # flush now, acknowledge
TROUBLES = {
    "dropped": _("%s dropped: their video or user is gone"),
    "rejected": _("%s rejected: kept aside in Redis"),
    "rewound": _("changes may be lost"),
}


def troubles(batch: FlushBatch) -> list[str]:
    """What is wrong with a batch, in words."""
    return [
        str(text) % number(amount) if "%s" in str(text) else str(text)
        for name, text in TROUBLES.items()
        if (amount := int(getattr(batch, name)))
    ]


def _gain_of(count: CountName) -> Any:
    def gained(batch: FlushBatch) -> SafeString:
        if count.kind == "tally":
            return format_html('<span class="one-line">{}</span>', number(gains(batch, count)))
        added, removed = (number(getattr(batch, f"{count.name}_{way}")) for way in ("added", "removed"))
        return format_html('<span class="one-line">+{} −{}</span>', added, removed)

    gained.__name__ = f"gained_{count.name}"  # the column's name
    return admin.display(gained, description=NAMES.get(count.name, count.name))


@admin.register(FlushBatch)
class FlushBatchAdmin(ReadOnlyAdmin):
    """What each flush moved, shard by shard."""

    list_display = ("batch", "claimed", "took", "changes", *map(_gain_of, COUNTS), "state")
    list_filter = (("finished_at", admin.EmptyFieldListFilter), "rewound", "shard")
    search_fields = ("=number",)
    search_help_text = _("A batch's number")
    ordering = ("-pk",)
    list_before_template = "videos/admin_flush.html"
    actions = ("acknowledge",)

    @admin.display(description=_("batch"), ordering="number")
    def batch(self, batch: FlushBatch) -> SafeString:
        text = gettext("%(number)s of shard %(shard)s") % {"number": number(batch.number), "shard": batch.shard}
        return format_html('<span class="one-line">{}</span>', text)

    @admin.display(description=_("claimed"), ordering="claimed_at")
    def claimed(self, batch: FlushBatch) -> SafeString:
        return format_html('<span class="one-line">{}</span>', moment(batch.claimed_at))

    @admin.display(description=_("took"))
    def took(self, batch: FlushBatch) -> SafeString:
        """From the claim to the end."""
        end = batch.finished_at
        text = gettext("not finished") if end is None else duration((end - batch.claimed_at).total_seconds())
        return format_html('<span class="one-line">{}</span>', text)

    @admin.display(description=_("changes"), ordering="fields")
    def changes(self, batch: FlushBatch) -> str:
        return number(batch.fields)

    @admin.display(description=_("state"))
    def state(self, batch: FlushBatch) -> SafeString:
        """Words: what is wrong, or that nothing is."""
        found = troubles(batch)
        if not found:
            return format_html("{}", _("complete") if batch.finished_at else _("being flushed"))
        lines = format_html_join("; ", "{}", ((text,) for text in found))
        if batch.acknowledged:
            return format_html("{} ({})", lines, _("acknowledged"))
        return format_html('<span class="bad-word">{}</span>', lines)

    def get_urls(self) -> Any:
        """Django's, and those of what may be done about the flush."""
        own = [
            path("flush/", self.admin_site.admin_view(self.flush_now), name="videos_flushbatch_flush"),
            path(
                "acknowledge/",
                self.admin_site.admin_view(self.acknowledge_all),
                name="videos_flushbatch_acknowledge",
            ),
        ]
        return [*own, *super().get_urls()]

    def has_flush_permission(self, request: HttpRequest) -> bool:
        """Whether the user may flush and acknowledge."""
        return bool(request.user.has_perm(MAY_FLUSH))

    @services.own_transactions
    def flush_now(self, request: HttpRequest) -> HttpResponse:
        """Flush all shards, settle notes, and say what was moved."""
        return self._act(request, self._flush)

    @services.own_transactions
    def acknowledge_all(self, request: HttpRequest) -> HttpResponse:
        """Acknowledge all that the first page shows of one kind."""
        batch_ids = services.troubled_batches().get(request.POST.get("trouble", ""), ())
        return self._act(request, lambda request: self._acknowledge(request, batch_ids))

    @admin.action(description=_("Acknowledge what went wrong"), permissions=["flush"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Acknowledge the selected batches."""
        self._acknowledge(request, [batch.pk for batch in queryset if troubles(batch)])

    def _act(self, request: HttpRequest, act: Any) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_flush_permission(request):
            raise PermissionDenied
        act(request)
        return HttpResponseRedirect(reverse("admin:index", current_app=self.admin_site.name))

    def _flush(self, request: HttpRequest) -> None:
        try:
            report = flush.run_flush(max_seconds=FLUSH_SECONDS)
        except flush.CountersUnavailable as error:
            self.message_user(request, gettext("Nothing was flushed: %s") % error, messages.ERROR)
            return
        moved = {
            "batches": number(report.batches), "changes": number(report.fields), "seconds": f"{report.seconds:.2f}",
            "settled": number(report.settled),
        }  # fmt: skip
        self.message_user(
            request,
            gettext(
                "Flushed %(changes)s changes in %(batches)s batches, and settled %(settled)s videos, in %(seconds)s s."
            )
            % moved,
            messages.SUCCESS,
        )
        for shard, reason in report.failures.items():
            failure = gettext("Shard %(shard)s failed: %(reason)s") % {"shard": shard, "reason": reason}
            self.message_user(request, failure, messages.ERROR)
        if not report.complete:
            self.message_user(request, gettext("The time was over; the next flush goes on."), messages.WARNING)

    def _acknowledge(self, request: HttpRequest, batch_ids: Any) -> None:
        done = services.acknowledge(batch_ids=batch_ids)
        text = ngettext("%s batch acknowledged.", "%s batches acknowledged.", done) % number(done)
        self.message_user(request, text, messages.SUCCESS)

    @services.own_transactions
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, below the state of the flush."""
        return super().changelist_view(request, {**(extra_context or {}), **flush_context(request)})


def flush_context(request: HttpRequest) -> dict[str, Any]:
    """The state of the flush for the pages that show it."""
    try:
        status: flush.FlushStatus | None = flush.read_status()
    except flush.CountersUnavailable:
        status = None
    finished = status.last_finished_seconds if status else None
    return {
        "flush": status,
        "finished_ago": None if finished is None else duration(round(finished)),
        "waiting": None if status is None else [
            (text, number(amount))
            for text, amount in (
                (_("changes pending"), status.pending_fields), (_("changes claimed"), status.claimed_fields),
                (_("videos to be set live"), status.stale_notes), (_("changes kept aside"), status.rejected_fields),
                (_("batches that may lack changes"), status.rewound_batches),
            )
        ],
        "may_flush": request.user.has_perm(MAY_FLUSH),
    }  # fmt: skip
