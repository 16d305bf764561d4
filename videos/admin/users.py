"""Users and groups: Django's pages in unfold's clothes; a deletion counts likes instead of listing them."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from videos.admin.lists import CountedDeletions


class QuickUserAdmin(CountedDeletions, UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    """Users."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


class QuickGroupAdmin(GroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Groups."""


# Pages that a project has made for its users stay as they are. They may inherit from CountedDeletions too.
for _model, _plain, _page in ((User, UserAdmin, QuickUserAdmin), (Group, GroupAdmin, QuickGroupAdmin)):
    if admin.site.is_registered(_model) and type(admin.site.get_model_admin(_model)) is _plain:
        admin.site.unregister(_model)
        admin.site.register(_model, _page)
