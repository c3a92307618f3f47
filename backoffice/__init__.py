# Loaded with the house, so that every process (web, command line, tests) sends its tasks to the desk's own broker.
from backoffice.celery import app as celery_app

__all__ = ["celery_app"]
