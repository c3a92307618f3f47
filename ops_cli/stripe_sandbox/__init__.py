"""A local server that speaks Stripe's wire API, version 2026-10-28.endive.

It runs as its own process with its own SQLite file, imports nothing of the desk, and nothing of the desk imports it:
the desk only sees a base address and a webhook secret, exactly as it would see Stripe.
"""

API_VERSION = "2026-10-28.endive"
