"""The window key ``{channel}:{business_id}:{contact_id}`` and the partition where it belongs."""

import re
import struct
from functools import lru_cache

_KEY = re.compile(rb"[a-z0-9-]{1,32}:[A-Za-z0-9._-]{1,160}:[A-Za-z0-9._-]{1,160}")
_MULTIPLIER = 0x5BD1E995
_MASK = 0xFFFFFFFF
_HEAD = 28  # bytes: a channel, a business id of WhatsApp, the colons, and where the contact lives


def is_key(key: bytes) -> bool:
    """Whether all three parts are of the contract's characters and lengths."""
    return _KEY.fullmatch(key) is not None


def partition_of(key: bytes, partitions: int) -> int:
    """Tell the partition that Kafka's default partitioner gives to a key (murmur2, as the Java client computes it)."""
    multiplier, mask, length = _MULTIPLIER, _MASK, len(key)
    value = _hash_of_head(length, key[:_HEAD])
    for word in _words(max(length - _HEAD, 0)).unpack_from(key, min(length, _HEAD)):
        word = word * multiplier & mask
        value = (value * multiplier ^ (word ^ word >> 24) * multiplier) & mask
    if tail := key[length & ~3 :]:
        value = (value ^ int.from_bytes(tail, "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return ((value ^ value >> 15) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=4096)
def _hash_of_head(length: int, head: bytes) -> int:
    """Hash the whole words among a key's first bytes, which many keys of a business share."""
    value = 0x9747B28C ^ length
    for word in _words(len(head)).unpack_from(head):
        word = word * _MULTIPLIER & _MASK
        value = (value * _MULTIPLIER ^ (word ^ word >> 24) * _MULTIPLIER) & _MASK
    return value


@lru_cache(maxsize=512)
def _words(length: int) -> struct.Struct:
    return struct.Struct(f"<{length // 4}I")
