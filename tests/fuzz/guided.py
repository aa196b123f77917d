"""A coverage-guided fuzzer over the codec: ``python -m tests.fuzz.guided SECONDS FOLDER`` (`make fuzz`).

The first byte of an input says where the record lies and what key and time it has (`record_of`), the rest is its value.
The contract's examples are what it begins with; what reaches new code is kept in the folder. An input that breaks an
invariant (`tests.fuzz.invariants`) is written there too, and `python -m tests.fuzz.guided 0 FILE` tries it again.

Needs atheris, which has a wheel for Python 3.11 on Linux and x86-64 only; `make fuzz` says so where there is none.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Final

from processor.codec.keys import partition_of
from tests.examples import INPUTS, PARTITIONS, input_examples
from tests.fuzz.invariants import Hostile, decode

NOW_MS: Final = 1_795_400_000_000
TIMES_MS: Final = (NOW_MS, 2**62, 0, -1)
HEADERS: Final = [("trace", b"\x00\xff"), ("empty", b"")]
VALUE_BYTES_MAX: Final = 4096
RSS_MB_MAX: Final = 256
"""It has some 50 MB after a minute; its corpus grows in a night."""

OUTBOUND, UNCHECKED, WITH_HEADERS, ELSEWHERE = 1, 2, 4, 8
"""What the bits of the first byte mean; 16 and 32 choose a time, 64 and 128 a key."""


def record_of(data: bytes) -> tuple[Hostile, bool]:
    """Make a record of an input, and say whether its key is looked at."""
    flags, value = data[0] if data else 0, data[1:]
    key = (_key_of(value), b"whatsapp:106540352242922:5511999998888", None, value[-300:])[flags >> 6]
    home = partition_of(key, PARTITIONS) if key is not None else 0
    partition = (home + bool(flags & ELSEWHERE)) % PARTITIONS
    headers = HEADERS if flags & WITH_HEADERS else []
    time_ms = TIMES_MS[flags >> 4 & 3]
    return Hostile(not flags & OUTBOUND, partition, key, value, time_ms, headers), not flags & UNCHECKED


def _key_of(value: bytes) -> bytes:
    """Give the key that the body names, where it names one: without it nothing lies behind the check of the key."""
    with contextlib.suppress(ValueError, RecursionError, TypeError, AttributeError, KeyError):
        body = json.loads(value)
        parts = body.get("channel") or "whatsapp", body["business_id"], body["contact_id"]
        return ":".join(parts).encode()
    return b""


def seeds() -> list[bytes]:
    """Give the contract's examples as inputs."""
    return [
        bytes([OUTBOUND if name == "outbound" else 0]) + example.value
        for name in INPUTS
        for verdict in ("good", "bad")
        for example in input_examples(name, verdict)
        if example.value is not None and len(example.value) < VALUE_BYTES_MAX
    ]


def words() -> list[str]:
    """Give what the contract's examples are made of, as libFuzzer's dictionary wants it."""
    found: set[str] = set()
    for seed in seeds():
        with contextlib.suppress(ValueError, RecursionError):
            body = json.loads(seed[1:])
            if isinstance(body, dict):
                texts = [*body, *(text for text in body.values() if isinstance(text, str))]
                found |= {text for text in texts if text.isascii() and text.isprintable() and 0 < len(text) < 40}
    return [json.dumps(json.dumps(text)) for text in sorted(found)]


def one_input(data: bytes) -> None:
    """Try one input."""
    decode(*record_of(data))


def main(seconds: int, folder: Path) -> None:
    """Fuzz for so many seconds, or try one file again."""
    import atheris

    for module in [name for name in sys.modules if name.startswith("processor.codec")]:
        for function in vars(sys.modules[module]).values():
            if getattr(function, "__module__", None) == module and hasattr(function, "__code__"):
                atheris.instrument_func(function)
    from processor.codec.inputs import InputDecoder

    for method in vars(InputDecoder).values():
        if hasattr(method, "__code__"):
            atheris.instrument_func(method)
    arguments = [str(folder)] if folder.is_file() else _prepared(folder, seconds)
    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def _prepared(folder: Path, seconds: int) -> list[str]:
    corpus, examples, dictionary = folder / "corpus", folder / "examples", folder / "words.txt"
    for made in (corpus, examples):
        made.mkdir(parents=True, exist_ok=True)
    for n, seed in enumerate(seeds()):
        (examples / f"{n:04d}").write_bytes(seed)
    dictionary.write_text("\n".join(words()) + "\n")
    return [
        str(corpus),
        str(examples),
        f"-max_total_time={seconds}",
        f"-max_len={VALUE_BYTES_MAX}",
        f"-dict={dictionary}",
        f"-artifact_prefix={folder}/",
        "-timeout=10",
        f"-rss_limit_mb={RSS_MB_MAX}",
        "-print_final_stats=1",
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
