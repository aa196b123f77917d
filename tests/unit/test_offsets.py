"""What stands beside a committed offset: read back as it was written, and refused where it is not ours."""

import json

import pytest

from processor.kafka.offsets import OffsetError, Progress, decode_progress, encode_progress

PROGRESS = Progress(1_795_348_800_000, 41, 12, "7f.3", "janela-host-7")


def test_progress_is_read_back_as_it_was_written() -> None:
    assert decode_progress(encode_progress(PROGRESS)) == PROGRESS


def test_progress_is_json_that_a_person_can_read() -> None:
    assert json.loads(encode_progress(PROGRESS)) == {
        "clock_ms": 1_795_348_800_000,
        "sequence": 41,
        "partitions": 12,
        "token": "7f.3",
        "transactional_id": "janela-host-7",
        "v": 1,
    }


def test_a_field_that_a_later_version_adds_is_skipped() -> None:
    written = json.loads(encode_progress(PROGRESS)) | {"added": [1]}
    assert decode_progress(json.dumps(written)) == PROGRESS


@pytest.mark.parametrize("metadata", ["", "committed by hand", "[]", "{}", '{"clock_ms": "noon"}'])
def test_what_another_program_committed_is_refused(metadata: str) -> None:
    with pytest.raises(OffsetError, match="bears no progress of this application"):
        decode_progress(metadata)


def test_progress_of_an_unknown_version_is_refused() -> None:
    written = json.loads(encode_progress(PROGRESS)) | {"v": 2}
    with pytest.raises(OffsetError, match="has version 2, this worker knows 1"):
        decode_progress(json.dumps(written))
