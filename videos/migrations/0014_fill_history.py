from django.db import migrations, transaction


def fill(apps, schema_editor):
    """Fill the new tables from the hours of videos. Repeated, it writes the same."""
    from videos.services import recompute_trends

    alias = schema_editor.connection.alias
    fields = apps.get_model("videos", "SiteHour")._meta.fields
    names = [field.name for field in fields if field.name not in {"id", "hour"}]
    with transaction.atomic(using=alias), schema_editor.connection.cursor() as cursor:
        cursor.execute("DELETE FROM videos_sitehour")
        cursor.execute(
            f"INSERT INTO videos_sitehour (hour, {', '.join(names)}) "
            f"SELECT hour, {', '.join(f'SUM({name})' for name in names)} FROM videos_videohour GROUP BY hour"
        )
    recompute_trends(using=alias)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("videos", "0013_hours_in_utc")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
