import logging

from django.db import migrations

logger = logging.getLogger("videos.migrations")
LOGGED_VIDEOS = 50_000


def index_videos(apps, schema_editor):
    """Write the words of all videos, 200 in a transaction. Interrupted, it goes on where it was when it is run again."""
    from videos.services import index_all

    logged = 0

    def show(done, total):
        nonlocal logged
        if done - logged >= LOGGED_VIDEOS:
            logged = done
            logger.info("%s of %s videos indexed for searches", f"{done:,}", f"{total:,}")

    index_all(using=schema_editor.connection.alias, progress=show)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("videos", "0007_videoword")]
    operations = [migrations.RunPython(index_videos, migrations.RunPython.noop)]
