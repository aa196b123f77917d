"""Put what lies on the input topics, or in an archive, on the input topics of another prefix or cluster.

`records` is what travels, `selection` says which, `topics` and `archive` are where they come from, `pseudonyms` and
`times` change them on the way, `pace` says when each one leaves, `target` writes each of them once, and `player` puts
these together.
"""
