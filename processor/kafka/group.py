"""Who is in a consumer group."""

from processor.kafka.connection import Connection


async def clients_of(connection: Connection, group: str) -> set[str]:
    """Give the client ids of the members of a group; there are none where it does not exist.

    Raises:
        KafkaError: The cluster does not answer, or refuses to.
    """
    admin = connection.admin()
    await admin.start()
    try:
        descriptions = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    return {member[1] for response in descriptions for found in response.groups for member in found[5]}
