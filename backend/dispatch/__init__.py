"""Carries decisions out: attempts, 429 retry, failover, cooldowns, streams, completion."""
