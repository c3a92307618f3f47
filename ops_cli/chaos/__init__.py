"""Chaos: bookings through the real doors of a desk of its own while its parts are killed, and the account of it."""
