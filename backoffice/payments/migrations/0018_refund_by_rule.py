from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Q


def by_their_keys(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Until now the key told it, and whoever asked for a refund could choose theirs: so the cause has to agree."""
    late = Q(idempotency_key__startswith="late-capture:") | Q(idempotency_key__startswith="late-charge:")
    by_host = Q(idempotency_key__startswith="cancel:", cause="host_cancellation")
    rows = apps.get_model("payments", "Refund").objects.filter(method="card")
    rows.filter(late & Q(cause="late_capture") | by_host).update(by_rule=True)


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0017_refunds_that_stand_aside"),
    ]

    operations = [
        migrations.AddField(
            model_name="refund",
            name="by_rule",
            field=models.BooleanField(
                default=False,
                help_text="a rule of ours owes it to the guest; never one that a person asked for, whatever its key",
            ),
        ),
        migrations.RunPython(by_their_keys, migrations.RunPython.noop),
        migrations.AlterField(
            model_name="refund",
            name="idempotency_key",
            field=models.CharField(help_text="people's and the rules' are told apart", max_length=160),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.UniqueConstraint(fields=("idempotency_key", "by_rule"), name="refund_once_per_key"),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("waits_for", ""), ("by_rule", True), _connector="OR"), name="refund_waits_by_rule"
            ),
        ),
    ]
