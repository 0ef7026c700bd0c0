"""The mirror of live places and the streams, in Redis ≥ 7.0 or Valkey (``docs/redis.md`` documents the keys)."""

from adapters.redis import keys
from adapters.redis.bus import RedisBus

__all__ = ["RedisBus", "keys"]
