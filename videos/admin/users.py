"""Users and groups: unfold's pages. A deletion says what goes with a user, and offers to deactivate instead."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.translation import gettext
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from videos import services
from videos.admin.lists import CountedDeletions, QuickChangeList, QuickPaginator, parse_id
from videos.admin.shown import name_of, number
from videos.changes import COUNTS


class QuickUserAdmin(CountedDeletions, UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    """Users."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ()  # its JavaScript is wider than the page and fails checks of accessibility
    delete_confirmation_template: ClassVar[Any] = "videos/admin_user_delete.html"
    paginator = QuickPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_disable_select_all = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Any]:
        """Django's hook."""
        return QuickChangeList

    def get_urls(self) -> Any:
        """Django's, and that of a deactivation."""
        view = self.admin_site.admin_view(self.deactivate)
        return [path("<path:object_id>/deactivate/", view, name="auth_user_deactivate"), *super().get_urls()]

    def deactivate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let a user sign in no more, and keep everything else."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        user = self.get_object(request, object_id) if parse_id(object_id) else None
        if user is None:
            raise Http404
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        user.is_active = False
        user.save(update_fields=["is_active"])
        self.log_change(request, user, gettext("Deactivated."))
        told = gettext("%s can no longer sign in. Their videos and likes stay.") % user
        self.message_user(request, told, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[user.pk]))

    @services.own_transactions
    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        """Django's page, and what goes with the user."""
        wanted = parse_id(object_id)
        goes = {} if wanted is None or request.method != "GET" else services.owned_by(user_id=wanted)
        context = {
            "owned": number(goes["videos"]) if goes else "",
            "sums": [(name_of(count), number(goes[count.name])) for count in COUNTS if goes],
            "may_change": self.has_change_permission(request),
        }
        return super().delete_view(request, object_id, {**(extra_context or {}), **context})


class QuickGroupAdmin(GroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Groups."""


# Pages that a project has made for its users stay as they are. They may inherit from CountedDeletions too.
for _model, _plain, _page in ((User, UserAdmin, QuickUserAdmin), (Group, GroupAdmin, QuickGroupAdmin)):
    if admin.site.is_registered(_model) and type(admin.site.get_model_admin(_model)) is _plain:
        admin.site.unregister(_model)
        admin.site.register(_model, _page)
