"""Measure: a load against a set-up that runs, and what came of it, from each record's moment to a consumer."""
