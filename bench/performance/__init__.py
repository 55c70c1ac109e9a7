"""Measures the gateway end to end, against its peers: `python -m bench.performance`."""
