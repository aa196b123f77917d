"""What a group says, where it says it with an error."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, NodeNotReadyError

from processor.kafka.group import offsets_of
from processor.kafka.protocol import offset_fetch

LOADING, UNSTABLE, REFUSED = 14, 88, 30


class Client:
    """Answers a question for offsets."""

    def __init__(self, code: int = 0, part_code: int = 0, error: Exception | None = None) -> None:
        parts: list[tuple[Any, ...]] = [(0, 7, -1, "beside it", part_code, {}), (1, -1, -1, "", part_code, {})]
        self.answer = SimpleNamespace(error_code=code, topics=[] if code else [("t", parts, {})])
        self.error = error

    async def coordinator_lookup(self, *_: Any) -> int:
        return 1

    async def send(self, *_: Any, **__: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer


async def asked(**answer: Any) -> Any:
    return await offsets_of(Client(**answer), "g", offset_fetch("g", ["t"], [0, 1]))


async def test_partitions_without_an_offset_are_left_out() -> None:
    assert await asked() == {TopicPartition("t", 0): (7, "beside it")}


@pytest.mark.parametrize(
    "answer", [{"code": LOADING}, {"part_code": UNSTABLE}, {"error": NodeNotReadyError()}], ids=str
)
async def test_a_group_that_cannot_say_yet_is_not_taken_for_one_without_offsets(answer: dict[str, Any]) -> None:
    assert await asked(**answer) is None


@pytest.mark.parametrize("answer", [{"code": REFUSED}, {"error": GroupAuthorizationFailedError()}], ids=str)
async def test_what_the_cluster_refuses_is_raised(answer: dict[str, Any]) -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        await asked(**answer)
