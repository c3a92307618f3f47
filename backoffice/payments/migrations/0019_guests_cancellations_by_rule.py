from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def those_under_way(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """What the policy gave a guest who cancelled. What was refused or taken back before was left to people: it stays so."""
    rows = apps.get_model("payments", "Refund").objects.filter(method="card", cause="guest_cancellation")
    under_way = ["approved", "submitted", "indeterminate", "succeeded"]
    rows.filter(idempotency_key__startswith="cancel:", status__in=under_way).update(by_rule=True)


class Migration(migrations.Migration):
    dependencies = [
        ("payments", "0018_refund_by_rule"),
    ]

    operations = [
        migrations.RunPython(those_under_way, migrations.RunPython.noop),
    ]
