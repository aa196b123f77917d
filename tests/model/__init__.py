"""The straight-line model: the rules a second time, by another hand, to referee the processor.

Nothing here imports the processor and nothing in the processor may import this.
"""
