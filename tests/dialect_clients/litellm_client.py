"""LiteLLM as a client of the gateway at the URL in the arguments. Prints what it received as JSON.

Runs in `.venv-clients`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import litellm


async def main(url: str) -> None:
    """Run all cases, and print their results."""
    litellm.suppress_debug_info = True

    async def ask(stream: bool, **demo: Any) -> Any:
        return await litellm.acompletion(
            model="openai/demo",
            api_base=f"{url}/v1",
            api_key="none",
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add 1 and 2."}],
            tools=[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
            stream=stream,
            stream_options={"include_usage": True} if stream else None,
            max_retries=0,
            extra_body={"demo": {"rate": 0, **demo}},
        )

    answer = await ask(False, thinking=2, text="It is 3.")
    chunks = [chunk async for chunk in await ask(True, text="Hm.", tool={"name": "add", "arguments": '{"a": 1}'})]
    whole = litellm.stream_chunk_builder(chunks)
    call = whole.choices[0].message.tool_calls[0].function
    try:
        await litellm.acompletion(
            model="openai/nobody", api_base=f"{url}/v1", api_key="none", messages=[{"role": "user", "content": "Hi"}]
        )
        refused = ""
    except litellm.NotFoundError as error:
        refused = str(error.status_code)
    print(  # noqa: T201
        json.dumps(
            {
                "answer": answer.choices[0].message.content,
                "reasoning": answer.choices[0].message.reasoning_content,
                "usage": answer.usage.total_tokens,
                "streamed": [whole.choices[0].message.content, call.name, call.arguments],
                "finish_reason": whole.choices[0].finish_reason,
                "refused": refused,
            }
        )
    )


asyncio.run(main(sys.argv[1]))
