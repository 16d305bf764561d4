"""The package's own door: POST /hitcount/hit/ajax/."""

from django.urls import include, path

urlpatterns = [path("hitcount/", include(("hitcount.urls", "hitcount"), namespace="hitcount"))]
