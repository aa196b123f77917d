"""Bearer tokens for OAUTHBEARER: fetched from an endpoint, or kept in a file by somebody else.

The client asks for a token each time it connects, so one is kept until shortly before its end. A broker that ends
sessions with their tokens (`connections.max.reauth.ms`) has the client connect anew; aiokafka does not re-authenticate.
"""

# mypy: disable-error-code="misc"

import asyncio
import base64
import time
from pathlib import Path
from urllib.parse import quote_plus

import aiohttp
import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from processor.kafka.security import ClientCredentials, TokenFile, read_secret

_ANSWER_S = 5
_KEPT_SHARE = 0.8
"""How much of a token's life it is used for: what connects late must still be let in."""


class _Answer(msgspec.Struct):
    """What we need of an answer (RFC 6749, section 5.1)."""

    access_token: str
    expires_in: float = 0.0


class TokenError(KafkaConnectionError):
    """There is no token to be had; the client tries again, as it does with a broker that is away."""


class FetchedTokens(AbstractTokenProvider):
    """Tokens by client credentials; may be asked in any loop."""

    def __init__(self, client: ClientCredentials) -> None:
        """Take where to ask, and as whom."""
        self._client = client
        self._token, self._good_until_s = "", 0.0

    async def token(self) -> str:
        """Give a token, a new one where the last is near its end.

        Raises:
            TokenError: The endpoint gives none.
        """
        if time.monotonic() >= self._good_until_s:
            asked_s = time.monotonic()
            answer = await self._fetch()
            self._token, self._good_until_s = answer.access_token, asked_s + _KEPT_SHARE * answer.expires_in
        return self._token

    async def _fetch(self) -> _Answer:
        client = self._client
        form = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
        # RFC 6749, section 2.3.1: both parts are encoded as in a form
        as_whom = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(as_whom).decode()}"}
        limit = aiohttp.ClientTimeout(total=_ANSWER_S)
        try:
            async with (
                aiohttp.ClientSession(headers=headers, timeout=limit) as session,
                session.post(client.token_url, data=form, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise TokenError(f"{client.token_url} gives no token: HTTP {response.status}")
                return msgspec.json.decode(await response.read(), type=_Answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise TokenError(f"{client.token_url} gives no token: {reason}") from error
        except msgspec.MsgspecError:
            raise TokenError(f"{client.token_url} gives no token: not the JSON of RFC 6749") from None


class KeptTokens(AbstractTokenProvider):
    """Tokens from a file, read anew for each connection: whoever keeps it replaces them in time."""

    def __init__(self, file: TokenFile) -> None:
        """Take where it is."""
        self._path = Path(file.path)

    async def token(self) -> str:
        """Give the token of this moment.

        Raises:
            TokenError: There is none.
        """
        try:
            return await asyncio.to_thread(read_secret, self._path)
        except (OSError, ValueError) as error:
            raise TokenError(f"no token in {self._path}: {error}") from error
