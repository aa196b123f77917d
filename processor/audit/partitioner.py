"""Kafka's default partition of a key, written from the description of MurmurHash2 (32 bit)."""

from functools import lru_cache

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_WORD = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return the 32 bits of the hash as an unsigned number (Java prints the same bits signed)."""
    state = _SEED ^ len(key)
    whole = len(key) - len(key) % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(key[start : start + 4], "little")
        word = word * _MULTIPLIER & _WORD
        word ^= word >> 24
        word = word * _MULTIPLIER & _WORD
        state = (state * _MULTIPLIER & _WORD) ^ word
    rest = key[whole:]
    if rest:
        state ^= int.from_bytes(rest, "little")
        state = state * _MULTIPLIER & _WORD
    state ^= state >> 13
    state = state * _MULTIPLIER & _WORD
    return state ^ (state >> 15)


@lru_cache(maxsize=1_000_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition where a key belongs, as the contract gives the formula."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
