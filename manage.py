#!/usr/bin/env python
"""Django's own commands, for developers; `./ops` is for everybody else."""

from __future__ import annotations

import contextlib
import os
import sys

from django.core.management import execute_from_command_line

from ops_cli.bootstrap import NotStarted, environment

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    with contextlib.suppress(NotStarted):  # commands that need no database work without a desk
        environment()
    execute_from_command_line(sys.argv)
