"""Who is in a consumer group."""

from aiokafka.admin import AIOKafkaAdminClient


async def clients_of(bootstrap_servers: str, group: str) -> set[str]:
    """Give the client ids of the members of a group; there are none where it does not exist.

    Raises:
        KafkaError: The cluster does not answer, or refuses to.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        descriptions = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    return {member[1] for response in descriptions for found in response.groups for member in found[5]}
