"""The admin's first page: what the site gained, which videos lead, and how the flush does."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from videos import services
from videos.admin.batches import TROUBLES, flush_context, troubles
from videos.admin.shown import Chart, chart, duration, gains, moment, name_of, number, unit_of
from videos.changes import COUNTS, PLACES
from videos.services import Window

TOP_VIDEOS = 8
LAST_BATCHES = 8


def first_page(index: Callable[..., Any]) -> Callable[..., Any]:
    """Django's first page, below an overview of what the user may see."""

    @services.own_transactions
    def view(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return index(request, {**(extra_context or {}), **_overview(request)})

    return view


def _overview(request: HttpRequest) -> dict[str, Any]:
    context: dict[str, Any] = {}
    try:
        if request.user.has_perm("videos.view_flushbatch"):
            context |= {"shows_flush": True, **flush_context(request), "shards": None}
            status = context["flush"]
            if status is not None:
                context["shards"] = [
                    (shard.shard, number(shard.pending_fields), number(shard.claimed_fields),
                     duration(None if shard.finished_seconds is None else round(shard.finished_seconds)), shard.late)
                    for shard in status.shards
                ]  # fmt: skip
            context["troubles"] = _troubles()
            context["count_names"] = [name_of(count) for count in COUNTS]
            context["batches"] = [
                (batch, moment(batch.claimed_at), number(batch.fields),
                 [number(gains(batch, count)) for count in COUNTS], "; ".join(troubles(batch)))
                for batch in services.latest_batches(most=LAST_BATCHES)
            ]  # fmt: skip
        if request.user.has_perm("videos.view_video"):
            context["charts"] = _charts()
            context["leaders"] = _leaders()
    except services.Unavailable as error:
        context["unavailable"] = str(error)
    return context


def _troubles() -> list[tuple[str, str, str]]:
    found = services.troubled_batches()
    texts = {
        "dropped": _("batches dropped changes: a video or a user is gone"),
        "rejected": _("batches rejected changes: they are kept aside in Redis"),
        "rewound": _("batches may lack changes: Redis or the database was set back"),
    }
    return [(name, number(len(found[name])), texts[name]) for name in TROUBLES if found[name]]


def _charts() -> list[list[Chart]]:
    spans = (
        (_("%s a minute, last hour"), timedelta(minutes=1), 60, "%H:%M"),
        (_("%s an hour, last day"), timedelta(hours=1), 24, "%H:%M"),
    )
    charts = []
    for title, step, steps, form in spans:
        gained = services.gains_by_step(step=step, steps=steps)
        charts.append([
            chart(
                capfirst(title % name_of(count)), unit_of(count),
                [(f"{localtime(begin):{form}}", sums[place]) for begin, sums in gained],
            )
            for place, count in enumerate(COUNTS)
        ])  # fmt: skip
    return charts


def _leaders() -> list[tuple[str, list[tuple[Any, str]]]]:
    """The videos with most likes, with most views, and those that rise."""
    views = PLACES["views"]
    rising = services.list_trending(window=Window("by_day", True, None, TOP_VIDEOS))
    lists = [(_("Rising today: views"), [(video, number(video.totals[views])) for _score, video in rising])]
    for count in COUNTS:
        if count.name not in {"likes", "views"}:
            continue
        found = services.list_videos(window=Window(count.column, True, None, TOP_VIDEOS))
        rows = [(video, number(video.totals[PLACES[count.name]])) for video in found]
        lists.append((_("Most %s") % name_of(count), rows))
    return lists


admin.site.index = first_page(admin.site.index)  # type: ignore[method-assign]
admin.site.index_template = "videos/admin_first.html"
