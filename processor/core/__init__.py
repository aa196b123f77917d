"""The rules: pure functions of state, input and time. Nothing here reads a clock, waits or logs."""
