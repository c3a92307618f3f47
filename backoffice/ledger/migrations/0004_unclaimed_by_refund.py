"""What a guest's bank sent back stands under the refund it was, so that one booking's returned refunds are told apart."""

from django.db import migrations

from backoffice.ledger import operations


def install_chart(apps, schema_editor):
    operations.install_chart()


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_chart")]

    operations = [migrations.RunPython(install_chart, migrations.RunPython.noop)]
