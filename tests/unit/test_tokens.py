"""Tokens for OAUTHBEARER: one is kept while it is good, and what gives none is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from processor.kafka.security import ClientCredentials, TokenFile
from processor.kafka.tokens import FetchedTokens, KeptTokens, TokenError


@asynccontextmanager
async def endpoint(expires_in: float, body: str | None = None) -> AsyncIterator[tuple[FetchedTokens, list[str]]]:
    """Give who fetches from an endpoint of this process, and what it was asked."""
    asked: list[str] = []

    async def give(request: web.Request) -> web.Response:
        asked.append(f"{request.headers['Authorization']} {await request.text()}")
        if body is not None:
            return web.Response(text=body)
        return web.json_response({"access_token": f"token {len(asked)}", "expires_in": expires_in})

    app = web.Application()
    app.router.add_post("/token", give)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    try:
        yield FetchedTokens(ClientCredentials(url, "bob", "s:3 cret", "kafka")), asked
    finally:
        await runner.cleanup()


async def test_a_token_is_fetched_once_while_it_is_good_and_again_when_it_is_not() -> None:
    async with endpoint(300) as (tokens, asked):
        assert [await tokens.token() for _ in range(3)] == ["token 1"] * 3
        # "bob:s%3A3+cret", each part encoded as in a form (RFC 6749, section 2.3.1)
        assert asked == ["Basic Ym9iOnMlM0EzK2NyZXQ= grant_type=client_credentials&scope=kafka"]
    async with endpoint(0) as (tokens, _):
        assert [await tokens.token() for _ in range(2)] == ["token 1", "token 2"]


@pytest.mark.parametrize("body", ["", "<html>", '{"error": "invalid_client"}'])
async def test_an_answer_without_a_token_is_told_without_the_secret(body: str) -> None:
    async with endpoint(300, body) as (tokens, _):
        with pytest.raises(TokenError, match="gives no token: not the JSON of RFC 6749") as caught:
            await tokens.token()
        assert "s:3" not in str(caught.value)


async def test_an_endpoint_that_is_away_is_told() -> None:
    with pytest.raises(TokenError, match=r"http://127.0.0.1:1/ gives no token"):
        await FetchedTokens(ClientCredentials("http://127.0.0.1:1/", "bob", "s3cret")).token()


async def test_a_token_in_a_file_is_the_one_of_this_moment(tmp_path: Path) -> None:
    tokens = KeptTokens(TokenFile(str(tmp_path / "token")))
    with pytest.raises(TokenError, match="no token in"):
        await tokens.token()
    for token in ("one", "two"):
        (tmp_path / "token").write_text(f"{token}\n")
        assert await tokens.token() == token
