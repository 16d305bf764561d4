"""Ids of users and videos by name, for the admin's search."""

from __future__ import annotations

from django.contrib.auth import get_user_model

from videos.models import Video


def user_ids_by_name(name: str, *, most: int) -> list[int]:
    """Users of this name: one, or several where the user model allows it."""
    users = get_user_model().objects.filter(**{get_user_model().USERNAME_FIELD: name})
    return list(users.values_list("pk", flat=True)[:most])


def video_ids_by_title(beginning: str, *, most: int) -> list[int]:
    """Videos whose title begins so."""
    return list(Video.objects.filter(title__istartswith=beginning).values_list("pk", flat=True)[:most])
