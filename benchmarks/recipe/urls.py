"""The recipe's doors."""

from django.urls import path

from benchmarks.recipe.views import LikeView, WatchView

urlpatterns = [
    path("api/videos/<int:pk>/like/", LikeView.as_view()),
    path("api/videos/<int:pk>/view/", WatchView.as_view()),
]
