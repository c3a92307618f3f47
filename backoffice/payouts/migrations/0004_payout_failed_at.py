from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("payouts", "0003_bank_payout_line_movement"),
    ]

    operations = [
        migrations.AddField(
            model_name="payout",
            name="failed_at",
            field=models.DateTimeField(help_text="the last refusal; it rests from then on", null=True),
        ),
        # What failed before goes on resting from when it was sent.
        migrations.RunSQL(
            "UPDATE payouts_payout SET failed_at = submitted_at WHERE status = 'failed'", migrations.RunSQL.noop
        ),
    ]
