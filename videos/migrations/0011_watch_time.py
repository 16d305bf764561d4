from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('videos', '0010_forgotten_user'),
    ]

    operations = [
        migrations.AddField(
            model_name='flushbatch',
            name='watched',
            field=models.BigIntegerField(db_default=0, default=0, help_text='Seconds watched.'),
        ),
        migrations.AddField(
            model_name='video',
            name='watch_seconds',
            field=models.BigIntegerField(db_default=0, default=0, editable=False, help_text='Time watched, of the views that counted.'),
        ),
        migrations.AddField(
            model_name='videohour',
            name='watched',
            field=models.BigIntegerField(db_default=0, default=0, help_text='Seconds.'),
        ),
    ]
