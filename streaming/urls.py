"""The HTTP door: admin, API, health, metrics, the page."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("videos.urls")),
]
handler400 = "videos.views.bad_request"
handler404 = "videos.views.page_not_found"
handler500 = "videos.views.server_error"
