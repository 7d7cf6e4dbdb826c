"""The addresses of OpenAI Chat Completions."""

from __future__ import annotations

from starlette.responses import Response

from gateway.dialects.chat_completions import CHAT_COMPLETIONS, ChatCompletionRequest, start_of
from gateway.http.dialects.serving import serve_start
from gateway.http.operation import Operation, RequestContext, ResponseSpec


async def create(context: RequestContext) -> Response | None:
    """Serve a chat completion. Raises `ApiError` and `ClientDisconnect`."""
    return await serve_start(context, start_of)


OPERATIONS = tuple(
    Operation(
        "POST",
        f"{base}/chat/completions",
        "OpenAI Chat Completions: answer messages, as a stream or not",
        create,
        (ResponseSpec("The completion, or a stream of its chunks.", is_binary=True),),
        dialect=CHAT_COMPLETIONS,
        body=ChatCompletionRequest,
    )
    for base in ("/v1", "/openai/v1")
)
