"""What stands for the part of a record that was too large to be kept, of which only size and digest are known.

Both pass for what they stand for wherever nothing but its size is asked, as the codec does first of all.
"""

from collections.abc import Iterator

from msgspec import Struct


class Unread(Struct, frozen=True, gc=False):
    """A key or a value."""

    size: int
    sha256: str

    def __len__(self) -> int:
        return self.size


class UnreadHeaders(Struct, frozen=True, gc=False):
    """Headers: how many, which is their length, and the bytes of their names and values together."""

    count: int
    size: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[str, Unread]]:
        yield "", Unread(self.size, "")


def too_large(key: object, value: object, headers: object) -> str:
    """Say what of a record was too large to be kept; empty where all of it is here."""
    if type(value) is not Unread and type(key) is not Unread and type(headers) is not UnreadHeaders:
        return ""  # every record passes here
    parts = ("key", key), ("value", value)
    found = [f"a {name} of {part.size:,} bytes" for name, part in parts if type(part) is Unread]
    if type(headers) is UnreadHeaders:
        found.append(f"{headers.count:,} headers")
    return " and ".join(found)
