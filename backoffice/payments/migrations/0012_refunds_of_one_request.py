import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('payments', '0011_chargebacks_to_answer'),
    ]

    operations = [
        migrations.AddField(
            model_name='refund',
            name='part_of',
            field=models.ForeignKey(help_text='the first refund of the same request, which several charges give back: one decision for all of them', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rest', to='payments.refund'),
        ),
    ]
