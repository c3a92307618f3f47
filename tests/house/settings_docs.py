"""Writes docs/settings.md from the environment table: `python -m tests.house.settings_docs`."""

from __future__ import annotations

from backoffice.settings import BASE_DIR, ENVIRONMENT

INTRODUCTION = """# Settings

Everything is read from the environment, once, at the start. A value that cannot be used is one clear line and exit code 2;
a production desk (DEBUG=0) without its secrets refuses to start. `./ops up` fills in whatever is not given, for the parts it
runs itself; giving `DATABASE_URL`, `REDIS_URL` or `STRIPE_API_KEY` with `STRIPE_API_BASE` replaces that part by yours.

| variable | default | meaning |
|---|---|---|
"""
# Defaults that depend on where the project lies or on another setting are described, not printed.
DESCRIBED = {
    "STAYDESK_HOME": "`.staydesk` in the project",
    "AUDIT_ANCHORS": "`STAYDESK_HOME/anchors`",
    "AUDIT_KEY": "SECRET_KEY",
    "CSRF_TRUSTED_ORIGINS": "SITE_URL",
    "HTTPS": "1, with DEBUG 0",
}


def render() -> str:
    rows = []
    for variable in ENVIRONMENT.values():
        default = DESCRIBED.get(variable.name) or (
            "required in production" if variable.default is None else f"`{variable.default}`"
        )
        if variable.default == "":
            default = "none"
        rows.append(f"| `{variable.name}`{' (secret)' if variable.secret else ''} | {default} | {variable.meaning} |\n")
    return INTRODUCTION + "".join(rows)


if __name__ == "__main__":
    (BASE_DIR / "docs" / "settings.md").write_text(render(), encoding="utf-8")
