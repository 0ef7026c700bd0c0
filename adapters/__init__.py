"""The outside world: PostgreSQL, Redis, embedded servers, geography."""
