"""Bytes to core values and back. Pure: no I/O, no clock; what can't be read is a value too (a dead letter)."""
