"""The shapes of each provider's requests and responses, as its documentation says; the models of recorded streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from providers.base import Usage
from tests.aws_frames import framed
from tests.upstream import Script, chat, messages, recorded, responses, sse

STREAMS = Path(__file__).parent / "streams"
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
COUNTED = Usage(input_tokens=9, output_tokens=4)
TEMPERATE = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 77, "seed": 3, "stop": ["END"]}


@dataclass(frozen=True)
class Shape:
    """One provider, called with `params`. The request body must hold the fields of `sent` and none of `unsent`."""

    model: str
    script: Script
    params: dict[str, Any] = field(default_factory=dict)
    path: str = "/v1/chat/completions"
    auth: tuple[str, str] = ("authorization", "Bearer {key}")
    sent: dict[str, Any] = field(default_factory=dict)
    unsent: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    text: str = "Hello wörld"
    reasoning: str = ""
    usage: Usage | None = COUNTED
    finish: str = "stop"


def delta(**fields: Any) -> bytes:
    """Return one chunk. Each keyword sets a field of its delta, except those with a leading underscore.

    `_finish` sets the choice's finish reason, `_choice` adds fields to the choice, and any other sets a field of the
    chunk itself.
    """
    own = {name.removeprefix("_"): value for name, value in fields.items() if name.startswith("_")}
    inner = {name: value for name, value in fields.items() if not name.startswith("_")}
    finish = own.pop("finish", None)
    choice = {"index": 0, "delta": inner, "finish_reason": finish} | own.pop("choice", {})
    return sse({"id": "c1", "object": "chat.completion.chunk", "choices": [choice]} | own)


def stream(*blocks: bytes, done: bool = True) -> Script:
    """Return a script of these chunks, by default with the usual `[DONE]` at the end."""
    return Script((*blocks, sse("[DONE]")) if done else blocks)


PLAIN = chat("Hel", "lo ", "wörld", usage=USAGE)
THINKS = stream(
    delta(role="assistant", content=None, reasoning_content="Let me "),
    delta(role="assistant", content=None, reasoning_content="think."),
    delta(role="assistant", content="Hello "),
    delta(role="assistant", content="wörld"),
    delta(content="", _finish="stop", _usage=USAGE),
)
REASONS = stream(
    delta(content="", reasoning="Let me think."),
    delta(content="Hello wörld"),
    delta(_finish="stop"),
    sse({"id": "c1", "choices": [], "usage": USAGE}),
)

SHAPES: dict[str, Shape] = {
    "openai": Shape(
        "openai/some-model",
        stream(
            delta(role="assistant", content="", refusal=None),
            delta(content="Hello wörld", _obfuscation="aB3x"),
            delta(_finish="stop"),
            sse({"id": "c1", "choices": [], "usage": USAGE, "obfuscation": ""}),
            sse({"id": "c1", "choices": [], "moderation": {}}),
        ),
        {"max_tokens": 77, "reasoning": "high"},
        sent={"max_completion_tokens": 77, "reasoning_effort": "high"}
        | {"stream_options": {"include_usage": True, "include_obfuscation": False}},
        unsent=("max_tokens",),
    ),
    "openai-responses": Shape(
        "gpt-6-sol", responses("Hello ", "wörld"), path="/v1/responses", usage=Usage(5, 2), unsent=("messages",)
    ),
    "azure": Shape(
        "azure/my-deployment",
        stream(
            sse(
                {"id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}]}
            ),
            delta(content="Hello ", _choice={"content_filter_results": {}}),
            delta(content="wörld", _choice={"content_filter_results": {"hate": {"filtered": False}}}),
            delta(_finish="stop"),
            sse({"id": "c1", "choices": [], "usage": USAGE}),
        ),
        {"max_tokens": 77},
        sent={"model": "my-deployment", "max_completion_tokens": 77},
    ),
    "anthropic": Shape(
        "claude-haiku-5-5",
        messages("Hello ", "wörld"),
        {"temperature": 1.0, "top_p": 1.0, "reasoning": "low"},
        path="/v1/messages",
        sent={"output_config": {"effort": "low"}},
        unsent=("temperature", "top_p", "seed"),
        headers={"anthropic-version": "2026-10-21"},
        usage=Usage(3, 2),
    ),
    "bedrock": Shape(
        "bedrock/global.anthropic.claude-opus-5-5",
        framed(messages("Hello ", "wörld")),
        {"temperature": 1.0},
        path="/model/global.anthropic.claude-opus-5-5/invoke-with-response-stream",
        unsent=("model", "temperature"),
        usage=Usage(3, 2),
    ),
    "vertex": Shape(
        "vertex/claude-opus-5-5",
        messages("Hello ", "wörld"),
        path="/v1/projects/region-1/locations/region-1/publishers/anthropic/models/claude-opus-5-5:streamRawPredict",
        unsent=("model",),
        usage=Usage(3, 2),
    ),
    "foundry": Shape("foundry/my-claude", messages("Hello ", "wörld"), path="/v1/messages", usage=Usage(3, 2)),
    "kimi": Shape(
        "kimi-k3",
        stream(
            delta(reasoning_content="Let me think."),
            delta(content="Hello "),
            delta(content="wörld", _choice={"usage": USAGE | {"cached_tokens": 5}, "finish_reason": "stop"}),
        ),
        TEMPERATE | {"reasoning": "medium"},
        sent={"reasoning_effort": "high", "max_completion_tokens": 77, "stop": ["END"]},
        unsent=("temperature", "top_p", "max_tokens"),
        reasoning="Let me think.",
        usage=Usage(9, 4, cache_read_tokens=5),
    ),
    "kimi-cn": Shape(
        "kimi-cn/kimi-k2.6",
        THINKS,
        {"reasoning": "none"},
        sent={"thinking": {"type": "disabled"}},
        reasoning="Let me think.",
    ),
    "glm": Shape(
        "glm-4.7", THINKS, {"reasoning": "low"}, sent={"thinking": {"type": "enabled"}}, reasoning="Let me think."
    ),
    "glm-cn": Shape(
        "glm-cn/glm-5.3", THINKS, {"reasoning": "none"}, sent={"reasoning_effort": "low"}, reasoning="Let me think."
    ),
    "gemini": Shape("gemini-3.8-flash", PLAIN, {"reasoning": "none"}, sent={"reasoning_effort": "low"}),
    "ernie": Shape(
        "ernie-5.1",
        stream(
            delta(reasoning_content="Let me think.", _usage=USAGE | {"completion_tokens": 1}),
            delta(content="Hello wörld", _usage=USAGE | {"completion_tokens": 3}),
            delta(content="", _finish="stop", _usage=USAGE),
        ),
        {"reasoning": "high"},
        sent={"enable_thinking": True},
        unsent=("reasoning_effort", "thinking_budget"),
        reasoning="Let me think.",
    ),
    "hunyuan": Shape(
        "hy3-preview", THINKS, {"reasoning": "high"}, sent={"thinking": {"type": "enabled"}}, reasoning="Let me think."
    ),
    "hunyuan-intl": Shape(
        "hunyuan-intl/hy3-preview",
        THINKS,
        {"reasoning": "none"},
        sent={"thinking": {"type": "disabled"}},
        reasoning="Let me think.",
    ),
    "deepseek": Shape(
        "deepseek-v4-pro",
        stream(
            b": keep-alive\n\n",
            delta(role="assistant", content=None, reasoning_content="Let me think."),
            b": keep-alive\n\n",
            delta(content="Hello wörld", reasoning_content=None),
            delta(
                content="",
                _finish="stop",
                _usage=USAGE | {"prompt_cache_hit_tokens": 6, "prompt_tokens_details": {"cached_tokens": 6}},
            ),
        ),
        {"reasoning": "none"},
        sent={"thinking": {"type": "disabled"}},
        reasoning="Let me think.",
        usage=Usage(9, 4, cache_read_tokens=6),
    ),
    "qwen": Shape(
        "qwen3.8-flash",
        THINKS,
        {"reasoning": "low", "max_tokens": 77},
        sent={"enable_thinking": True, "thinking_budget": 2048, "max_tokens": 77},
        unsent=("reasoning_effort",),
        reasoning="Let me think.",
    ),
    "qwen-cn": Shape(
        "qwen-cn/qwen3.8-max",
        THINKS,
        {"reasoning": "max"},
        sent={"reasoning_effort": "xhigh"},
        reasoning="Let me think.",
    ),
    "mistral": Shape(
        "mistral-medium-latest",
        recorded(STREAMS / "chat_mistral_list_content.sse", "openai-chat"),
        {"seed": 3, "reasoning": "low"},
        sent={"random_seed": 3, "reasoning_effort": "high"},
        unsent=("seed", "stream_options"),
        text="Look up.",
        reasoning="The sky is blue.",
        usage=Usage(5, 11),
        finish="length",
    ),
    "xai": Shape(
        "grok-4.7",
        stream(
            delta(role="assistant", reasoning_content="Let me think."),
            delta(content="Hello wörld"),
            delta(_finish="stop"),
            sse(
                {
                    "id": "c1",
                    "choices": [],
                    "usage": USAGE | {"total_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 7}},
                }
            ),
        ),
        {"reasoning": "max", "stop": ["END"]},
        sent={"reasoning_effort": "high"},
        unsent=("stop",),
        reasoning="Let me think.",
        usage=Usage(9, 11, reasoning_tokens=7),
    ),
    "openrouter": Shape(
        "openrouter/anthropic/claude-sonnet-5-5",
        stream(
            b": OPENROUTER PROCESSING\n\n",
            delta(
                content="",
                reasoning="Let me think.",
                reasoning_details=[{"type": "reasoning.text", "text": "Let me think.", "index": 0}],
            ),
            delta(content="Hello wörld", reasoning=None),
            delta(content="", _finish="stop"),
            delta(content="", _usage=USAGE | {"cost": 0.00067}),
        ),
        {"reasoning": "max"},
        sent={"reasoning": {"effort": "xhigh"}, "model": "anthropic/claude-sonnet-5-5"},
        headers={"x-title": "Turnwire"},
        reasoning="Let me think.",
    ),
    "groq": Shape(
        "groq/openai/gpt-oss-120b",
        REASONS,
        {"reasoning": "none", "max_tokens": 77},
        sent={"reasoning_effort": "low", "max_completion_tokens": 77, "model": "openai/gpt-oss-120b"},
        reasoning="Let me think.",
    ),
    "ollama": Shape("ollama/gpt-oss:20b", REASONS, sent={"model": "gpt-oss:20b"}, reasoning="Let me think."),
    "vllm": Shape("vllm/Qwen/Qwen3.8-27B", REASONS, sent={"model": "Qwen/Qwen3.8-27B"}, reasoning="Let me think."),
    "lmstudio": Shape(
        "lmstudio/some-model",
        # Some builds end without [DONE].
        stream(delta(content="Hello wörld"), delta(_finish="stop", _usage=USAGE), done=False),
    ),
}

# Recorded streams, and the model name that each is requested under.
RECORDED: dict[str, str] = {
    "azure-openai-chat__prompt-filter-first-chunk.sse": "azure/my-deployment",
    "azure-chat__deepseek-r1-reasoning.chunks.txt": "azure/deepseek-r1",
    "deepseek-chat__reasoning.chunks.txt": "deepseek-v4-pro",
    "deepseek-chat__tool-call.chunks.txt": "deepseek-v4-flash",
    "mistral-chat__incremental-tool-call.chunks.txt": "mistral-large-latest",
    "moonshot-chat__kimi-k3-synthetic.chunks.txt": "kimi-k3",
    "ollama-cloud-chat__gpt-oss.sse": "ollama/gpt-oss:120b",
    "openrouter-chat__anthropic-reasoning.sse": "openrouter/anthropic/claude-sonnet-4.5",
    "openrouter-chat__midstream-error.sse": "openrouter/some/model",
    "qwen-chat__reasoning.chunks.txt": "qwen3.8-max",
    "xai-chat__tool-call.chunks.txt": "xai/grok-3-mini",
    "zai-chat__glm47-thinking.sse": "glm-4.7",
}
