from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('videos', '0015_acknowledged'),
    ]

    operations = [
        migrations.AddField(
            model_name='flushbatch',
            name='dislikes_added',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='flushbatch',
            name='dislikes_removed',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='sitehour',
            name='dislikes',
            field=models.BigIntegerField(db_default=0, default=0, help_text='Net, as likes.'),
        ),
        migrations.AddField(
            model_name='video',
            name='dislike_count',
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name='videohour',
            name='dislikes',
            field=models.BigIntegerField(db_default=0, default=0, help_text='Net, as likes.'),
        ),
        migrations.AddField(
            model_name='videolike',
            name='value',
            field=models.SmallIntegerField(choices=[(1, 'like'), (2, 'dislike')], db_default=1, default=1),
        ),
        migrations.AddIndex(
            model_name='videolike',
            index=models.Index(fields=['user', 'value', 'created_at', 'video'], name='videolike_user_value'),
        ),
        migrations.AddIndex(
            model_name='videolike',
            index=models.Index(fields=['video', 'value', 'created_at', 'user'], name='videolike_video_value'),
        ),
        # After the new ones: foreign keys need an index that begins with their column.
        migrations.RemoveIndex(
            model_name='videolike',
            name='videolike_user',
        ),
        migrations.RemoveIndex(
            model_name='videolike',
            name='videolike_video',
        ),
    ]
