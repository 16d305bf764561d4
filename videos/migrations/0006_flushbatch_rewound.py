from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("videos", "0005_replay_and_meetings")]
    operations = [
        migrations.AddIndex(
            model_name="flushbatch", index=models.Index(fields=["rewound"], name="flushbatch_rewound")
        ),
    ]
