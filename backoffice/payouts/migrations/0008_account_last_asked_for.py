from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("payouts", "0007_account_asked_for"),
    ]

    operations = [
        migrations.AlterField(
            model_name="hostaccount",
            name="asked_at",
            field=models.DateTimeField(
                help_text="when the provider was last asked to make it: its country stays until that is answered or lost",
                null=True,
            ),
        ),
    ]
