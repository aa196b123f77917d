"""What a platform team sees of a worker: metrics, liveness and readiness, on an address of our own.

`metrics` is the catalogue, `instruments` fills it, `server` answers over HTTP.
"""
