"""Registers what must run at start-up: the system checks and the watch over deletions and edits."""

from django.apps import AppConfig


class VideosConfig(AppConfig):
    """Likes and views of videos."""

    name = "videos"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Bind checks and signals once the models are loaded."""
        from videos import checks, meeting, signals  # noqa: F401  checks and meetings register themselves

        signals.connect()
