"""The app's paths."""

from django.urls import path, re_path

from videos import health
from videos.api.views import likes, page, pages, sessions, stats, tokens, videos, viewing

urlpatterns = [
    path("api/videos/", videos.VideosView.as_view(), name="videos"),
    path("api/videos/counts/", videos.CountsView.as_view(), name="counts"),
    path("api/videos/<int:video>/", videos.OneVideoView.as_view(), name="video"),
    path("api/videos/<int:video>/like/", likes.LikeView.as_view(), name="like"),
    path("api/videos/<int:video>/dislike/", likes.DislikeView.as_view(), name="dislike"),
    path("api/videos/<int:video>/likes/", likes.LikersView.as_view(), name="likers"),
    path("api/videos/<int:video>/stats/", stats.VideoStatsView.as_view(), name="video-stats"),
    path("api/videos/<int:video>/view/", viewing.ViewView.as_view(), name="view"),
    path("api/views/", viewing.ViewsView.as_view(), name="views"),
    path("api/me/likes/", likes.MyLikesView.as_view(), name="my-likes"),
    path("api/me/stats/", stats.MyStatsView.as_view(), name="my-stats"),
    path("api/stats/", stats.SiteStatsView.as_view(), name="site-stats"),
    path("api/trending/", stats.TrendingView.as_view(), name="trending"),
    path("api/session/", sessions.SessionView.as_view(), name="session"),
    path("api/token/", tokens.TokenView.as_view(), name="token"),
    path("api/token/refresh/", tokens.RefreshView.as_view(), name="token-refresh"),
    path("api/token/revoke/", tokens.RevokeView.as_view(), name="token-revoke"),
    path("api/schema/", pages.SchemaView.as_view(), name="schema"),
    path("api/docs/", pages.DocsView.as_view(url_name="schema"), name="docs"),
    re_path(r"^api/.*[^/]$", pages.without_slash),
    path("health/live", health.live, name="health-live"),
    path("health/ready", health.ready, name="health-ready"),
    path("metrics", health.metrics, name="metrics"),
    path("", page.PageView.as_view(), name="page"),
    path("likes/", page.PageView.as_view(), name="page-likes"),
    path("videos/<int:video>/", page.PageView.as_view(), name="page-video"),
]
