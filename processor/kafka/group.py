"""Who is in a consumer group."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, for_code

from processor.kafka.connection import Connection

_AGAIN_S = 0.2
_HEAR_S = 1.0


async def clients_of(connection: Connection, group: str, within_s: float = 0.0) -> set[str]:
    """Give the client ids of the members of a group; there are none where it does not exist.

    Where nobody can say for the moment (a coordinator that has just come names no members either), it is asked again
    for `within_s`.

    Raises:
        KafkaError: The cluster does not answer, or refuses to.
    """
    give_up_s = time.monotonic() + within_s
    admin = connection.admin()
    await admin.start()
    try:
        while True:
            answers = await admin.describe_consumer_groups([group])
            groups = [found for answer in answers for found in answer.groups]
            error = next((for_code(code)() for code, *_ in groups if code), None)
            if error is None:
                return {member[1] for found in groups for member in found[5]}
            if not error.retriable or time.monotonic() >= give_up_s:
                raise error
            await asyncio.sleep(_AGAIN_S)
    finally:
        await admin.close()


async def is_gone(connection: Connection, group: str, client_id: str) -> bool:
    """Tell whether a client is not in a group; where nobody can say for the moment, it may be.

    Raises:
        KafkaError: The cluster refuses to answer.
    """
    try:
        return client_id not in await clients_of(connection, group)
    except KafkaError as error:
        if not error.retriable:
            raise
        return False


async def error_of_group(consumer: AIOKafkaConsumer) -> KafkaError:
    """Wait until the group refuses a consumer, also at its first join; to be awaited in the consumer's loop.

    aiokafka does nothing more until somebody has taken the error, and it is taken by asking for records only.
    """
    while True:
        try:
            consumer._coordinator.check_errors()
        except KafkaError as error:
            return error
        await asyncio.sleep(_HEAR_S)
