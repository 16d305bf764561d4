"""The admin: live counts beside stored ones. Counts are read only; a like is taken back through `services`."""

from videos.admin import batches, overview, rows, sign_in, users, videos
from videos.admin.lists import CountedDeletions

__all__ = [
    "CountedDeletions",
    "batches",
    "overview",
    "rows",
    "sign_in",
    "users",
    "videos",
]  # each module registers its models
