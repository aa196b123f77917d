"""What was restored is put into its partition in parts: the loop's other work, heartbeats among it, goes on."""

import asyncio

from processor.core.consent import Consents
from processor.core.partition import Partition
from processor.core.policy import DAY_MS, Policy
from processor.core.window import Window
from processor.stream.restore import _RECORDS_AT_ONCE, RestoredState, fill
from tests.scene import T0

PARTS = 6


async def test_others_have_their_turn_while_a_large_state_is_put_in() -> None:
    state = RestoredState()
    state.windows = {b"whatsapp:1:%d" % n: Window(T0, T0 + DAY_MS, T0) for n in range(PARTS * _RECORDS_AT_ONCE)}
    state.consents = {b"whatsapp:1:0": Consents()}
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    partition = Partition(Policy())
    await fill(partition, T0 + 1, state)
    others.cancel()
    assert turns >= PARTS
    assert dict(partition.windows) == state.windows
    assert partition.consents == state.consents
    assert partition.clock_ms == T0 + 1


async def test_a_partition_without_state_has_its_clock_alone() -> None:
    partition = Partition(Policy())
    await fill(partition, T0, RestoredState())
    assert (dict(partition.windows), partition.clock_ms) == ({}, T0)
