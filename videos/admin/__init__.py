"""Django's admin: live counts beside stored ones. Counts are read only; a like is taken back through `services`."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

from videos.admin import rows, sign_in, videos
from videos.admin.lists import CountedDeletions

__all__ = ["CountedDeletions", "rows", "sign_in", "videos"]  # each module registers its models


class QuickUserAdmin(CountedDeletions, UserAdmin):  # type: ignore[type-arg]
    """Django's pages of users; a deletion counts likes instead of listing them."""


# Pages that a project has made for its users stay as they are. They may inherit from CountedDeletions too.
if admin.site.is_registered(User) and type(admin.site.get_model_admin(User)) is UserAdmin:
    admin.site.unregister(User)
    admin.site.register(User, QuickUserAdmin)
admin.site.site_header = "Likes and views"
admin.site.site_title = "Likes and views"
