"""Routing, pure: a request and a catalogue snapshot in, a ranking out. No I/O, no clock, no chance."""
