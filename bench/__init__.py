"""Measurements of Clearfloor, each one command: `python -m bench.<name>`."""
