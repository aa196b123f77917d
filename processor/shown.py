"""What may be shown of a value that somebody set: no secret, and no more than fits into a line."""

import json
import re
from typing import Any, Final

MASK: Final = "********"
LENGTH_MAX: Final = 80
"""A value may be a whole file pasted into a variable."""

_USERINFO: Final = re.compile(r"((?:[A-Za-z][\w+.-]*:)?//).*@|[^\s\"']+:.*@", re.DOTALL)
"""As in ``https://user:secret@host``, also where the scheme was forgotten. A password may hold any of ``/``, ``@``."""


def masked(text: str) -> str:
    """Take out who logs in and by which secret, where a text has an address with both."""
    return _USERINFO.sub(lambda match: f"{match[1] or ''}{MASK}@", text)


def shortened(text: str) -> str:
    """Cut what is too long for a line."""
    return text if len(text) <= LENGTH_MAX else f"{text[:LENGTH_MAX]}…"


def quoted(value: Any) -> str:
    """Write a value as a line shows it."""
    return shortened(masked(json.dumps(value, ensure_ascii=False, default=str)))
