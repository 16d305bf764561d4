"""The HTTP door: admin, API, health, metrics, the page."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("videos.urls")),
]
handler400 = "videos.api.views.pages.bad_request"
handler404 = "videos.api.views.pages.page_not_found"
handler500 = "videos.api.views.pages.server_error"
