"""Traces: which input caused which output, for whoever follows a message through several programs."""
