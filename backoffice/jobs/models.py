"""What ran, how far it came, and what is alive."""

from __future__ import annotations

from django.db import models

from backoffice.core.fields import status_check
from backoffice.jobs.states import RUN, STOP_SCOPES


class JobRun(models.Model):
    """One run of a job. That it is still running is proven by its advisory lock, not by this row."""

    name = models.CharField(max_length=80)
    scope = models.CharField(max_length=120, blank=True, help_text="what the run has to itself: a city, a day")
    args = models.JSONField(default=dict)
    actor = models.CharField(max_length=120)
    host = models.CharField(max_length=120)
    pid = models.IntegerField()
    version = models.CharField(max_length=40, blank=True)
    status = models.CharField(max_length=12, choices=RUN.choices, default=RUN.initial)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(help_text="when it last told its progress")
    counts = models.JSONField(default=dict)
    cursor = models.JSONField(null=True, help_text="where a repeated run goes on")
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            status_check("job_run_status", RUN.statuses),
            models.CheckConstraint(
                name="job_run_ended", condition=models.Q(status="running") ^ models.Q(finished_at__isnull=False)
            ),
        ]
        indexes = [
            models.Index(name="job_run_recent", fields=["name", "-started_at"]),
            models.Index(name="job_run_running", fields=["name", "scope"], condition=models.Q(status="running")),
        ]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.name} {self.scope}".rstrip()


class LastSuccess(models.Model):
    """When a job last ended well, quiet runs too: what lateness is measured from."""

    name = models.CharField(max_length=80, primary_key=True)
    at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "last successes"

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%Y-%m-%d %H:%M:%S}"


class Cursor(models.Model):
    """How far a job has read somebody else's list, kept between runs."""

    name = models.CharField(max_length=120, primary_key=True)
    value = models.JSONField()
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Stop(models.Model):
    """A kill switch that is on, or was: what it stops, why, and by whom. One per scope is on at a time."""

    scope = models.CharField(max_length=12, choices=[(scope, scope) for scope in STOP_SCOPES])
    reason = models.TextField()
    by = models.CharField(max_length=120)
    since = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_by = models.CharField(max_length=120, blank=True, default="")
    ended_reason = models.TextField(blank=True, default="")

    class Meta:
        constraints = [
            status_check("stop_scope", STOP_SCOPES, "scope"),
            models.UniqueConstraint(
                name="one_stop_per_scope", fields=["scope"], condition=models.Q(ended_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope} stopped since {self.since:%Y-%m-%d %H:%M}"


class Heartbeat(models.Model):
    """A part of the desk that was alive at an instant."""

    part = models.CharField(max_length=40)
    host = models.CharField(max_length=120)
    pid = models.IntegerField()
    version = models.CharField(max_length=40, blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="heartbeat_once", fields=["part", "host"])]

    def __str__(self) -> str:
        return f"{self.part} on {self.host}"
