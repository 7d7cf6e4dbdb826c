"""LangChain's ChatOpenAI against the gateway at the URL in the arguments. Prints what it received as JSON.

Runs in `.venv-clients`.
"""

from __future__ import annotations

import json
import sys

from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

PROMPT = "Add 1 and 2."


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Sum(BaseModel):
    """The result of an addition."""

    total: int


def main(url: str) -> None:
    """Run all cases, and print their results."""

    def model(**demo: object) -> ChatOpenAI:
        return ChatOpenAI(
            model="demo", base_url=f"{url}/v1", api_key="none", max_retries=0, extra_body={"demo": {"rate": 0, **demo}}
        )

    calling = model(text="Let me see.", tool={"name": "add", "arguments": '{"a": 1, "b": 2}'}).bind_tools([add])
    called = calling.invoke([HumanMessage(PROMPT)])
    result = ToolMessage(str(add.invoke(called.tool_calls[0]["args"])), tool_call_id=called.tool_calls[0]["id"])
    answered = model(text="It is 3.").bind_tools([add]).invoke([HumanMessage(PROMPT), called, result])
    streamed: AIMessageChunk | None = None
    for chunk in calling.stream([HumanMessage(PROMPT)], stream_usage=True):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    found = model(text='{"total": 3}').with_structured_output(Sum, method="json_schema").invoke(PROMPT)
    print(  # noqa: T201
        json.dumps(
            {
                "called": [called.content, called.tool_calls[0]["name"], called.tool_calls[0]["args"]],
                "answered": answered.content,
                "id": answered.response_metadata["id"],
                "usage": dict(answered.usage_metadata or {})["total_tokens"],
                "streamed": [streamed.content, streamed.tool_calls[0]["args"]],
                "streamed_usage": dict(streamed.usage_metadata or {})["output_tokens"],
                "structured": found.total,
            }
        )
    )


main(sys.argv[1])
