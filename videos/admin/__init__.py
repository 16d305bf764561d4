"""Django's admin: live counts beside stored ones. Counts are read only; a like is taken back through `services`."""

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin

from videos.admin import rows, videos
from videos.admin.lists import CountedDeletions

__all__ = ["rows", "videos"]  # each registers its models


class QuickUserAdmin(CountedDeletions, UserAdmin):  # type: ignore[type-arg]
    """Django's pages of users; a deletion counts likes instead of listing them."""


admin.site.unregister(get_user_model())
admin.site.register(get_user_model(), QuickUserAdmin)
admin.site.site_header = "Likes and views"
admin.site.site_title = "Likes and views"
