"""Keys and partitions: the hash is Kafka's, since producers that we do not know use it too."""

import random

import pytest
from aiokafka.partitioner import murmur2

from processor.audit.partitioner import partition_of as partition_of_the_model
from processor.codec.keys import is_key, partition_of


@pytest.mark.parametrize(
    ("key", "signed_hash"),
    [  # those of Apache Kafka's own test of its hash (UtilsTest.testMurmur2)
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
@pytest.mark.parametrize("partitions", [1, 4, 12, 64, 1000, 0x7FFFFFFF])
def test_the_hash_is_that_of_the_java_client(key: bytes, signed_hash: int, partitions: int) -> None:
    assert partition_of(key, partitions) == (signed_hash & 0x7FFFFFFF) % partitions


def test_it_is_aiokafkas_and_the_models_for_keys_of_all_lengths() -> None:
    numbers = random.Random(5)
    for length in range(360):
        for _ in range(20):
            key = numbers.randbytes(length)
            expected = murmur2(key) & 0x7FFFFFFF
            assert partition_of(key, 0x7FFFFFFF) == expected % 0x7FFFFFFF
            assert partition_of(key, 12) == expected % 12 == partition_of_the_model(key, 12)


def test_keys_of_contacts_spread_over_all_partitions() -> None:
    counts = [0] * 12
    for number in range(12_000):
        counts[partition_of(f"whatsapp:106540352242922:55119000{number:05d}".encode(), 12)] += 1
    assert min(counts) > 800


@pytest.mark.parametrize(
    "key",
    [
        b"whatsapp:106540352242922:5511900010001",
        b"a:b:c",
        b"web-chat-2:A.b_c-9:US.13491208655302741918",
        b"x" * 32 + b":" + b"y" * 160 + b":" + b"z" * 160,
    ],
)
def test_a_key_has_three_parts_of_the_contracts_characters(key: bytes) -> None:
    """W1"""
    assert is_key(key)


@pytest.mark.parametrize(
    "key",
    [
        *(b"", b":", b"::", b"a:b", b"a:b:", b":b:c", b"a::c", b"a:b:c:d", b"a:b:c:"),
        *(b"WhatsApp:1:2", b"whats_app:1:2", b"whats.app:1:2", b"whatsapp:1:+5511900010001", b"whatsapp:1 :2"),
        *(b"a:b:c\n", b"\na:b:c", b"a:b:c\x00", b"a:b\n:c", b"a:b:\xff", "a:b:\u00e9".encode(), "a:\u0661:c".encode()),
        *(b"x" * 33 + b":b:c", b"a:" + b"y" * 161 + b":c", b"a:b:" + b"z" * 161),
    ],
)
def test_anything_else_is_no_key(key: bytes) -> None:
    """W1"""
    assert not is_key(key)
