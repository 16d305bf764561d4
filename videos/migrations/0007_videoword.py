import django.db.models.deletion
from django.db import migrations, models


def compare_by_bytes(apps, schema_editor):
    """Give the column a collation that tells all words apart and holds all characters. SQLite's default does."""
    if schema_editor.connection.vendor == "mysql":
        schema_editor.execute(
            "ALTER TABLE videos_videoword MODIFY word varchar(24) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
        )


class Migration(migrations.Migration):
    dependencies = [("videos", "0006_flushbatch_rewound")]
    operations = [
        migrations.CreateModel(
            name="VideoWord",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "word", "video_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("word", models.CharField(max_length=24)),
                (
                    "video",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="words",
                        to="videos.video",
                    ),
                ),
            ],
            options={"indexes": [models.Index(fields=["video", "word"], name="videoword_video")]},
        ),
        migrations.RunPython(compare_by_bytes, migrations.RunPython.noop, atomic=False),
    ]
