from datetime import UTC

from django.conf import settings
from django.db import migrations
from django.utils import timezone


def write_in_utc(apps, schema_editor):
    """Rows held hours in TIME_ZONE, or in that of the database's settings. All are in UTC from now on."""
    connection = schema_editor.connection
    zone = connection.timezone if settings.USE_TZ else timezone.get_default_timezone()
    rows = apps.get_model("videos", "VideoHour").objects.using(connection.alias)
    if str(zone) == "UTC" or not rows.exists():
        return
    # In this order no row takes the place of one that is still to move.
    hours = sorted(rows.order_by().values_list("hour", flat=True).distinct())
    moves = []
    for hour in hours:
        local = hour.astimezone(zone) if hour.tzinfo else hour.replace(tzinfo=zone)
        moves.append((local.astimezone(UTC).replace(tzinfo=None), local.replace(tzinfo=None)))
    if moves[0][0] > moves[0][1]:
        moves.reverse()
    # Not by UPDATE, which docs/operations.md does not grant to the user that migrates.
    names = ", ".join(field.column for field in rows.model._meta.fields if field.name not in {"id", "hour"})
    with connection.cursor() as cursor:
        for new, old in moves:
            cursor.execute(
                f"INSERT INTO videos_videohour ({names}, hour) SELECT {names}, %s FROM videos_videohour WHERE hour = %s",
                [str(new), str(old)],
            )
            cursor.execute("DELETE FROM videos_videohour WHERE hour = %s", [str(old)])


class Migration(migrations.Migration):
    dependencies = [("videos", "0012_history")]
    operations = [migrations.RunPython(write_in_utc, migrations.RunPython.noop)]
