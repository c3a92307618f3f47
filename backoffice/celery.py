"""The Celery application: tasks are sent by name, and beat's schedule is the list of jobs that run by themselves."""

from __future__ import annotations

import os

from celery import Celery, signals
from django.db import close_old_connections

from backoffice.core.collector import settle_in

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
# Django's own checks: .ci/run and `manage.py migrate` make them. A worker would load all pages of the console for them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("staydesk")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
signals.worker_init.connect(lambda **_: settle_in(), weak=False)
# A task goes on with the database connection of the one before it, as a request does, once it is known to be alive: a new one
# for each took a fifth of the workers' time.
app.conf.CELERY_DB_REUSE_MAX = 1_000
signals.task_prerun.connect(lambda **_: close_old_connections(), weak=False)

# Intervals are seconds. Each task is a job with an advisory lock: a late or doubled tick does no harm.
app.conf.beat_schedule = {
    "heartbeat": {"task": "jobs.heartbeat", "schedule": 10.0},
    "outbox": {"task": "notifications.sweep_outbox", "schedule": 5.0},
    "seal-audit": {"task": "audit.seal", "schedule": 30.0},
    "expire-holds": {"task": "workflows.expire_holds", "schedule": 15.0},
    "webhooks": {"task": "workflows.apply_pending_events", "schedule": 10.0},
    "poll-events": {"task": "workflows.poll_missed_events", "schedule": 60.0},
    "balance-transactions": {"task": "workflows.import_balance_transactions", "schedule": 20.0},
    "indeterminate": {"task": "workflows.resolve_indeterminate", "schedule": 30.0},
    "chargebacks": {"task": "workflows.follow_chargebacks", "schedule": 300.0},
    "requests": {"task": "workflows.answer_requests", "schedule": 30.0},
    "saved-cards": {"task": "workflows.charge_saved_cards", "schedule": 60.0},
    "payouts": {"task": "workflows.release_payouts", "schedule": 60.0},
    "bank-payouts": {"task": "workflows.follow_bank_payouts", "schedule": 300.0},
    "clawbacks": {"task": "workflows.claw_back", "schedule": 3600.0},
    "sweep-earnings": {"task": "workflows.sweep_earnings", "schedule": 3600.0},
    "reconcile-state": {"task": "reconciliation.state", "schedule": 3600.0},
    "reconcile-all": {"task": "reconciliation.all", "schedule": 86400.0},
    "complete-stays": {"task": "workflows.complete_stays", "schedule": 300.0},
    "forget-keys": {"task": "jobs.forget_old_keys", "schedule": 3600.0},
}
