"""Rows that the flush writes: likes and hours. Deleting a like unlikes the video for its user."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import router, transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from videos import services
from videos.admin.lists import QuickAdmin, ReadOnlyAdmin, forbid, parse_id
from videos.admin.shown import NAMES, moment, number
from videos.changes import COUNTS, LIKE, NOTHING, CountName
from videos.models import VideoHour, VideoLike

MAX_MATCHES = 1000  # users and videos whose likes a search by name shows


@admin.register(VideoLike)
class VideoLikeAdmin(QuickAdmin):
    """Who likes what, as of the last flush. Who dislikes what is shown to nobody else."""

    list_display = ("video", "user", "since")
    related = ("video", "user")
    search_fields = ("video__title", f"user__{get_user_model().USERNAME_FIELD}")
    search_help_text = _("A user's name, words of a video, or an id of either")
    ordering = ("-pk",)

    has_add_permission = has_change_permission = forbid  # users like through the API; a like has nothing to edit

    @admin.display(description=_("since"), ordering="created_at")
    def since(self, like: VideoLike) -> SafeString:
        return format_html('<span class="one-line">{}</span>', moment(like.created_at))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(value=LIKE)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """Search by ids, which have indexes. Names are looked up first, because a JOIN would read every like."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            user_ids, video_ids = services.ids_by_name(name=term, most=MAX_MATCHES)
        except services.SearchTimeout as error:
            self.message_user(request, str(error), messages.ERROR)
            return queryset.none(), False
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
                stored &= services.set_mark(video_id=like.video_id, user_id=like.user_id, value=NOTHING).stored
                taken.append(like)
        finally:
            if taken:
                super().log_deletions(request, taken)
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


def _gain_of(count: CountName) -> Callable[[Any], str]:
    def gained(hour: Any) -> str:
        return number(getattr(hour, count.name))

    gained.__name__ = f"gained_{count.name}"  # the column's name
    return admin.display(gained, description=NAMES.get(count.name, count.name), ordering=count.name)


GAINS = tuple(map(_gain_of, COUNTS))


@admin.register(VideoHour)
class VideoHourAdmin(ReadOnlyAdmin):
    """What a video gained, hour by hour."""

    list_display = ("video_id", "begin", *GAINS)
    search_fields = ("=video__id",)
    search_help_text = _("A video's id")
    ordering = ("-pk",)

    @admin.display(description=_("hour"), ordering="hour")
    def begin(self, hour: VideoHour) -> SafeString:
        return format_html('<span class="one-line">{}</span>', moment(hour.hour))

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        term = search_term.strip()
        return (queryset.filter(video=parse_id(term) or 0), False) if term else (queryset, False)
