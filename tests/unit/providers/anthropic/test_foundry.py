"""Foundry, through the real SDK and over real HTTP."""

from tests.answers import desk
from tests.upstream import messages


async def test_answers() -> None:
    """It is Anthropic's Messages under another address, with a key."""
    async with desk(environment={"ANTHROPIC_FOUNDRY_API_KEY": "foundry-key-0123456789"}) as (upstream, at):
        upstream.plays(messages("Hel", "lo"))
        answer = await at.turn("foundry/my-claude", temperature=0.5)
        assert (answer.text(), answer.finish, answer.error) == ("Hello", "stop", None)
        (asked,) = upstream.asked
        assert asked.path == "/v1/messages"
        assert "foundry-key-0123456789" in (asked.headers.get("x-api-key"), asked.headers.get("api-key"))
        assert asked.body["model"] == "my-claude"
        assert "temperature" not in asked.body
