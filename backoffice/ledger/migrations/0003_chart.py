"""Put the chart of accounts into the database. A later chart is put there by a later migration that does the same."""

from django.db import migrations

from backoffice.ledger import operations


def install_chart(apps, schema_editor):
    operations.install_chart()


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_guards")]

    operations = [migrations.RunPython(install_chart, migrations.RunPython.noop)]
