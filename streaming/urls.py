"""The HTTP door: admin, API, health, metrics, the page."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("videos.urls")),
]
