"""The state topics made anew from the inputs, in their place: up to where the group has committed, and saying nothing.

No offset is moved and no event is written. The inputs are applied once more by the core, in the order in which the
workers took them as far as their rounds are known, up to the committed offsets and the committed clock; what then
differs from what lies on `window-state` and `consent-state` is written there.
"""
