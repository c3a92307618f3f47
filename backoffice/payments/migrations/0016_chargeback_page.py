from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0015_converted_movements'),
    ]

    operations = [
        migrations.AddField(
            model_name='chargeback',
            name='page',
            field=models.URLField(blank=True, default='', help_text="the provider's own, where people see it", max_length=300),
        ),
    ]
