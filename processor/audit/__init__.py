"""The audit: any cluster's topics held against the rules, told a second time by another hand.

The model (`model`, `records`, `policy`, `partitioner`) and the comparison (`verdict`) share no code with the worker,
which import-linter holds; `reading` brings them what lies on a cluster.
"""
