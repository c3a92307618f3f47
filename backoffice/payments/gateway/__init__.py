"""The door to the payment provider: `port` says what any provider must do, `stripe` does it, `submit` calls it safely."""
