"""The parts of a desk on one machine: PostgreSQL, Redis, the Stripe sandbox, web, worker and beat."""
