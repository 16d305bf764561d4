"""Rows and constraints. Knows no Redis. Only `ledger` writes count columns and like rows."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import models, router, transaction
from django.dispatch import Signal
from django.utils import timezone

from videos.changes import COLUMNS, DISLIKE, LIKE, Totals
from videos.words import WORD_CHARACTERS

TEXTS: Final = frozenset({"title", "description"})  # columns of a video that searches look at
texts_written = Signal()  # of the videos `video_ids`, in the transaction that wrote them; `using` is its database


class CountField(models.BigIntegerField):  # type: ignore[type-arg]  # no generic at run time
    """A number that only the ledger writes; `save()` on an existing row leaves it unchanged.

    Otherwise an object that was read a minute ago would overwrite a minute of likes with its old counts.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"default": 0, "editable": False, **options})

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Zero for a new row, also for a copy of another one; for an existing row the column's current value."""
        if not add:
            return models.F(self.attname)
        setattr(model_instance, self.attname, 0)
        return 0

    def deconstruct(self) -> Any:
        """Migrations see a plain BigIntegerField, which it is in the database."""
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.BigIntegerField", args, options


class HourField(models.DateTimeField):  # type: ignore[type-arg]  # no generic at run time
    """A time that rows hold in UTC, whatever USE_TZ and TIME_ZONE say; a value that was read has that zone.

    Times of other columns follow these settings. In a zone with summer time, two hours would have the same text.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> datetime | None:
        """The time in UTC: what the row holds, without the zone that Django gave it."""
        return None if value is None else value.replace(tzinfo=UTC)

    def get_prep_value(self, value: Any) -> Any:
        """The time without its zone, as the row holds it."""
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC).replace(tzinfo=None)
        return value

    def deconstruct(self) -> Any:
        """Migrations see a plain DateTimeField, which it is in the database."""
        name, _, args, options = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, options


class VideoQuerySet(models.QuerySet["Video"]):
    """Videos. What writes texts of many sends `texts_written`, for which Django has no signal."""

    def update(self, **values: Any) -> int:
        """Django's, which `bulk_update` uses too."""
        if not TEXTS & values.keys():
            return super().update(**values)
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            video_ids = list(self.order_by().values_list("pk", flat=True))
            changed = super().update(**values)
            texts_written.send(self.model, video_ids=video_ids, using=self.db)
        return changed

    def bulk_create(self, objs: Iterable["Video"], *args: Any, **options: Any) -> list["Video"]:
        """Django's. MySQL does not tell the new ids: they are above those that were there before."""
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            videos = self.model._base_manager.using(self.db)
            highest = videos.aggregate(highest=models.Max("pk"))["highest"] or 0
            made = super().bulk_create(objs, *args, **options)
            video_ids: set[Any] = {video.pk for video in made} - {None}
            if len(video_ids) < len(made):
                video_ids |= set(videos.filter(pk__gt=highest).values_list("pk", flat=True))
            texts_written.send(self.model, video_ids=video_ids, using=self.db)
        return made


class Video(models.Model):
    """A video, with its counts as of the last flush. Readers are shown the live totals in Redis, if there are any."""

    title = models.CharField(max_length=200)
    description = models.TextField(blank=True, max_length=5000)
    url = models.URLField(max_length=500)
    duration = models.PositiveIntegerField(default=0, help_text="Seconds; 0 where it is not known.")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="videos")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    like_count = CountField()
    view_count = CountField()
    dislike_count = CountField(db_default=0)
    watch_seconds = CountField(db_default=0, help_text="Time watched, of the views that counted.")
    flushed_batch = CountField(help_text="Watermark: the newest batch of its shard that this row has taken in.")

    objects = VideoQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["created_at", "id"], name="video_created"),
            models.Index(fields=["like_count", "id"], name="video_likes"),
            models.Index(fields=["view_count", "id"], name="video_views"),
        ]
        permissions: ClassVar = [("send_views", "Can send views in batches")]

    def __str__(self) -> str:
        return self.title

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **options: Any) -> None:
        """Save the row, but never its counts, and its words. Raises ValueError if `update_fields` names a count."""
        counted = {"flushed_batch", *COLUMNS} & set(update_fields or ())
        if counted:
            raise ValueError(
                f"save() does not write {', '.join(sorted(counted))}: the flush adds to it, and an older object would "
                "undo that. manage.py import_counts imports views of another system; like_count is the number of like "
                "rows, and manage.py reconcile_counters --repair sets it."
            )
        using = options.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using, savepoint=False):
            super().save(*args, update_fields=update_fields, **options)

    @property
    def totals(self) -> Totals:
        """The counts in the row."""
        return Totals(*[getattr(self, column) for column in COLUMNS])


class VideoWord(models.Model):
    """A word of a title or a description, for searches: videos/words.py says what a word is.

    No foreign key constraint: SQL by hand that deletes videos need not know of words. Searches leave such rows out.
    """

    pk = models.CompositePrimaryKey("word", "video_id")
    word = models.CharField(max_length=WORD_CHARACTERS)
    video = models.ForeignKey(Video, models.CASCADE, db_constraint=False, db_index=False, related_name="words")

    class Meta:
        indexes: ClassVar = [models.Index(fields=["video", "word"], name="videoword_video")]

    def __str__(self) -> str:
        return f"{self.word} in video {self.video_id}"


class VideoLike(models.Model):
    """A user likes a video, or dislikes it. The flush writes it; while Redis is away the request does."""

    # The foreign keys need no index of their own: the unique constraint and the indexes below begin with them.
    video = models.ForeignKey(Video, on_delete=models.CASCADE, related_name="likes", db_index=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="video_likes", db_index=False
    )
    created_at = models.DateTimeField(default=timezone.now)
    value = models.SmallIntegerField(default=LIKE, db_default=LIKE, choices=[(LIKE, "like"), (DISLIKE, "dislike")])

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["video", "user"], name="videolike_once")]
        # For "what I like" and "who likes it", newest first: the cost of a page does not depend on the list's length.
        indexes: ClassVar = [
            models.Index(fields=["user", "value", "created_at", "video"], name="videolike_user_value"),
            models.Index(fields=["video", "value", "created_at", "user"], name="videolike_video_value"),
        ]

    def __str__(self) -> str:
        return f"user {self.user_id} {self.get_value_display()}s video {self.video_id}"


class HourGains(models.Model):
    """How much each of COUNTS gained in an hour (UTC)."""

    hour = HourField()
    likes = models.BigIntegerField(default=0, help_text="Net: likes less unlikes.")
    dislikes = models.BigIntegerField(default=0, db_default=0, help_text="Net, as likes.")
    views = models.BigIntegerField(default=0)
    watched = models.BigIntegerField(default=0, db_default=0, help_text="Seconds.")

    class Meta:
        abstract = True


class VideoHour(HourGains):
    """What a video gained in an hour (UTC), for graphs. Old hours are merged into the first hour of their day."""

    video = models.ForeignKey(Video, on_delete=models.CASCADE, related_name="hours", db_index=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["video", "hour"], name="videohour_once")]
        indexes: ClassVar = [models.Index(fields=["hour"], name="videohour_hour")]

    def __str__(self) -> str:
        return f"video {self.video_id} in {self.hour:%Y-%m-%d %H}h"


class SiteHour(HourGains):
    """What all videos gained in an hour (UTC).

    Each transaction of the flush adds a row of its own: one row for all would be a lock that all wait for. The upkeep
    merges the rows of an hour.
    """

    class Meta:
        indexes: ClassVar = [models.Index(fields=["hour"], name="sitehour_hour")]

    def __str__(self) -> str:
        return f"all videos in {self.hour:%Y-%m-%d %H}h"


class TrendingVideo(models.Model):
    """How a video trends, in the windows of a day and of a week: videos/ledger/trending.py has the formula.

    No foreign key constraint: SQL by hand that deletes videos need not know of it. Lists leave such rows out.
    """

    video = models.OneToOneField(Video, models.CASCADE, primary_key=True, db_constraint=False, related_name="trend")
    by_day = models.BigIntegerField()
    by_week = models.BigIntegerField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["by_day"], name="trendingvideo_day"),
            models.Index(fields=["by_week"], name="trendingvideo_week"),
        ]

    def __str__(self) -> str:
        return f"trend of video {self.video_id}"


class StaleLive(models.Model):
    """A note: rows of this video changed outside a batch, so its live totals in Redis must be set again.

    It has no foreign key constraint, because it must outlive a deleted video or user: settling it removes their keys.
    A note of an edit names no user and has the time of the edit. Without both, anything of the video may have changed.
    """

    video = models.ForeignKey(Video, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+")
    user = models.BigIntegerField(null=True, help_text="Whose like changed; null where none did.")
    written_ms = models.BigIntegerField(default=0, help_text="When it was wished, in Unix milliseconds.")

    def __str__(self) -> str:
        return f"live count of video {self.video_id}"


class DoubtfulView(models.Model):
    """A view that Redis may have counted before it stopped answering. While Redis is away its repeat is refused."""

    viewer = models.CharField(max_length=32, help_text="A hash of the viewer.")
    video = models.BigIntegerField()
    at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["viewer", "video"], name="doubtfulview_once")]

    def __str__(self) -> str:
        return f"view of video {self.video} at {self.at}"


class SignIn(models.Model):
    """A sign-in of the API: the family of its refresh tokens, of which the newest works, once.

    Ends when it expires, at sign-out, with a new password, or when a token is used twice.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    newest = models.CharField(max_length=32, help_text="Id of the newest refresh token.")
    password = models.CharField(max_length=16, help_text="Changes with the password; tells nothing of it.")
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"sign-in of user {self.user_id}"


class ForgottenUser(models.Model):
    """A user who was deleted, until the flush has removed the keys in Redis that name the user.

    It does so twice: at once, and when the user's last access token has expired.
    """

    user = models.BigIntegerField(unique=True)
    due_at = models.DateTimeField(db_index=True)
    ends_at = models.DateTimeField(help_text="When no access token of the user is valid any more.")

    def __str__(self) -> str:
        return f"user {self.user}, who was deleted"


class CountersIdentity(models.Model):
    """The id that this database and its Redis share: one row, of id 1."""

    value = models.CharField(max_length=32)

    def __str__(self) -> str:
        return self.value


class Meeting(models.Model):
    """The last meeting of a shard of Redis with this database: docs/glossary.md explains fences."""

    shard = models.PositiveSmallIntegerField(unique=True)
    run = models.CharField(max_length=64, help_text="Run id of the Redis that was met.")
    fence = models.BigIntegerField(help_text="A number that grows with each meeting.")

    def __str__(self) -> str:
        return f"meeting {self.fence} of shard {self.shard}"


class FlushBatch(models.Model):
    """A batch of pending changes that a flush claimed from one shard, and how many fields had each outcome.

    `fields = applied + repeated + dropped + rejected` once it is finished.
    """

    shard = models.PositiveSmallIntegerField()
    number = models.BigIntegerField()
    claimed_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    fields = models.BigIntegerField(default=0, help_text="Pending fields claimed, less those that went back.")
    applied = models.BigIntegerField(default=0, help_text="Fields taken in.")
    repeated = models.BigIntegerField(default=0, help_text="Fields that an interrupted run had taken in already.")
    dropped = models.BigIntegerField(default=0, help_text="Fields whose video or user is gone.")
    rejected = models.BigIntegerField(default=0, help_text="Malformed fields, kept aside in Redis.")
    videos = models.BigIntegerField(default=0, help_text="Rows of videos changed.")
    likes_added = models.BigIntegerField(default=0)
    likes_removed = models.BigIntegerField(default=0)
    dislikes_added = models.BigIntegerField(default=0, db_default=0)
    dislikes_removed = models.BigIntegerField(default=0, db_default=0)
    views = models.BigIntegerField(default=0)
    watched = models.BigIntegerField(default=0, db_default=0, help_text="Seconds watched.")
    postponed = models.JSONField(default=list, editable=False, help_text="Videos whose fields went back to pending.")
    acknowledged = models.BooleanField(
        default=False, db_default=False, editable=False, help_text="An administrator has seen what is wrong with it."
    )
    rewound = models.BooleanField(default=False, help_text="Redis or the database was set back: changes may be lost.")
    taken = models.BigIntegerField(default=0, help_text="Fields that transactions have taken in so far.")
    fence = models.BigIntegerField(default=0, help_text="Fence of the flush that may add to it.")

    class Meta:
        verbose_name_plural = "flush batches"
        constraints: ClassVar = [models.UniqueConstraint(fields=["shard", "number"], name="flushbatch_once")]
        indexes: ClassVar = [
            models.Index(fields=["finished_at"], name="flushbatch_finished"),
            models.Index(fields=["rewound"], name="flushbatch_rewound"),
            models.Index(fields=["dropped"], name="flushbatch_dropped"),
            models.Index(fields=["rejected"], name="flushbatch_rejected"),
        ]

    def __str__(self) -> str:
        return f"batch {self.number} of shard {self.shard}"
