"""The doors of counting in rows."""

from django.urls import path

from benchmarks.rows.views import CountView, LikeView, ListView, WatchView

urlpatterns = [
    path("api/videos/", ListView.as_view()),
    path("api/videos/<int:pk>/", CountView.as_view()),
    path("api/videos/<int:pk>/like/", LikeView.as_view()),
    path("api/videos/<int:pk>/view/", WatchView.as_view()),
]
