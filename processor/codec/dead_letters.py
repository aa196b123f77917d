"""Dead letters: a record that can't be read, byte for byte, with headers that say why and where from."""

import hashlib

from processor.codec.inputs import DeadLetter, Headers


def dead_letter(
    letter: DeadLetter,
    source: tuple[str, int, int],
    timestamp_ms: int,
    value: bytes | None,
    headers: Headers,
    processor_version: str,
    value_bytes_max: int,
) -> tuple[bytes | None, list[tuple[str, bytes]]]:
    """Give value and headers of the dead letter; `source` is (topic, partition, offset) of the record.

    A value of more than `value_bytes_max` bytes would not fit the topic: it is replaced by null, and its size and
    digest stand in the headers. Headers of the record come first, ours after them; where all of them together are
    larger than that, they are left out and counted in one of ours.
    """
    topic, partition, offset = source
    ours = {
        "__dlq.reason": letter.reason,
        "__dlq.message": letter.message,
        "__dlq.topic": topic,
        "__dlq.partition": str(partition),
        "__dlq.offset": str(offset),
        "__dlq.timestamp": str(timestamp_ms),
        "__dlq.processor": processor_version,
    }
    if value is not None and len(value) > value_bytes_max:
        digest = getattr(value, "sha256", "") or hashlib.sha256(value).hexdigest()  # what was never kept has its own
        ours |= {"__dlq.size": str(len(value)), "__dlq.sha256": digest}
        value = None
    if sum(len(name) + len(text or b"") for name, text in headers) > value_bytes_max:
        ours["__dlq.headers"] = str(len(headers))
        headers = ()
    return value, [*headers, *((name, text.encode()) for name, text in ours.items())]
