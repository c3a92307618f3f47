from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("payouts", "0004_payout_failed_at"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="payout",
            index=models.Index(condition=models.Q(("status", "failed")), fields=["due_at"], name="payout_refused"),
        ),
    ]
