from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("videos", "0001_initial")]

    operations = [migrations.RemoveField(model_name="stalelive", name="liked")]
