"""Dead letters: a record that can't be read, byte for byte, with headers that say why and where from."""

import hashlib

from processor.codec.inputs import DeadLetter, Headers


def dead_letter(
    letter: DeadLetter,
    source: tuple[str, int, int],
    timestamp_ms: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    processor_version: str,
    part_bytes_max: int,
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Give key, value and headers of the dead letter; `source` is (topic, partition, offset) of the record.

    A key or a value of more than `part_bytes_max` bytes would not fit the topic: it is replaced by null, and its size
    and digest stand in the headers. Headers of the record come first, ours after them; where all of them together are
    larger than that, or were too many to be kept, they are left out and counted in one of ours.
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
    for which, part in (("key_", key), ("", value)):
        if part is not None and len(part) > part_bytes_max:
            digest = getattr(part, "sha256", "") or hashlib.sha256(part).hexdigest()  # what was never kept has its own
            ours |= {f"__dlq.{which}size": str(len(part)), f"__dlq.{which}sha256": digest}
    key = None if "__dlq.key_size" in ours else key
    value = None if "__dlq.size" in ours else value
    are_kept = isinstance(headers, list | tuple)
    if not are_kept or sum(len(name) + len(text or b"") for name, text in headers) > part_bytes_max:
        ours["__dlq.headers"] = str(len(headers))
        headers = ()
    return key, value, [*headers, *((name, text.encode()) for name, text in ours.items())]
