from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0016_chargeback_page"),
    ]

    operations = [
        migrations.AlterField(
            model_name="refund",
            name="unclaimed",
            field=models.BooleanField(
                default=False,
                help_text="failed, and the money stands aside for the guest: their bank sent it back, or the provider "
                "refused what is theirs by rule",
            ),
        ),
    ]
