"""Crashes that show a change itself, and not what its guard is for: a name that is not there, a value of a wrong type.

A test that fails by one has not seen a guard missing. So such a failure counts for nothing, unless the row of the table
says that this very crash is what there is to be seen.
"""

import re
from typing import Final

_BY_ITSELF: Final = re.compile(
    r"\b(AttributeError|ImportError|IndentationError|ModuleNotFoundError|NameError|RecursionError|SyntaxError|TypeError"
    r"|UnboundLocalError)[:(]"
)
"""As a traceback ends, and as the simulation tells of a `worker.bug`."""


def crash_in(told: str) -> str:
    """Give the name of the first such crash that a failure tells of, empty where it tells of none."""
    found = _BY_ITSELF.search(told)
    return found[1] if found else ""
