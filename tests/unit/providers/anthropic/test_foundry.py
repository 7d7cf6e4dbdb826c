"""Foundry, with the real SDK and over real HTTP."""

from tests.upstream import messages
from tests.upstream_providers import open_providers


async def test_answers() -> None:
    """Foundry is Anthropic's Messages API at another URL, with an API key and without a temperature."""
    async with open_providers(environment={"ANTHROPIC_FOUNDRY_API_KEY": "foundry-key-0123456789"}) as (
        upstream,
        providers,
    ):
        upstream.play(messages("Hel", "lo"))
        answer = await providers.answer_model("foundry/my-claude", temperature=0.5)
        assert (answer.text(), answer.finish, answer.error) == ("Hello", "stop", None)
        (received,) = upstream.requests
        assert received.path == "/v1/messages"
        assert "foundry-key-0123456789" in (received.headers.get("x-api-key"), received.headers.get("api-key"))
        assert received.body["model"] == "my-claude"
        assert "temperature" not in received.body
