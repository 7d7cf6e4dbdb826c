"""The quirks of providers and models: how each deviates from its dialect. The catalog's rows set them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

ReasoningStyle = Literal["effort", "thinking", "toggle", "nested", "adaptive", "budget", "fixed"]
CallIds = Literal["short", "nine", "functions"]
PromptCache = Literal["", "request", "blocks"]


class Quirks(BaseModel):
    """The deviations of a provider or a model from its dialect. A model's quirks override its provider's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reasoning: ReasoningStyle = "effort"
    """How `params.reasoning` is sent. In Chat Completions: `effort` (`reasoning_effort`), `thinking`
    (`thinking.type`), `toggle` (`enable_thinking`, with `budgets` also `thinking_budget`) or `nested`
    (`reasoning.effort`). In Responses: `effort`. In Messages: `adaptive` or `budget`. `fixed` means that the
    model has no such setting."""
    efforts: dict[str, str] = {}
    """Map from our name of an effort to the model's name, where they differ."""
    budgets: dict[str, int] = {}
    """Map from our name of an effort to a budget in tokens, for the style `toggle`."""
    thinking_off: Literal["disabled", "between_tools", ""] = "disabled"
    """The thinking type that `params.reasoning: none` sends. Empty if thinking can't be turned off."""
    thinking_shown: bool = False
    """Whether the model thinks by default but hides its thinking, so that each request has to ask to see it."""
    reasoning_back: bool = False
    """Whether the model expects the text of its reasoning back: in Chat Completions as `reasoning_content`."""
    signed_calls: bool = False
    """Whether tool calls carry Google's thought signature, which has to be sent back with them."""
    unsigned_call: str = ""
    """The signature to send with a tool call that has none, because another model made it. Empty: none is needed."""
    reasoning_details: bool = False
    """Whether the model expects its `reasoning_details` back, in the format of OpenRouter."""
    call_ids: CallIds | None = None
    """The form of the ids of tool calls in a context: `short` (at most 40 of `A-Za-z0-9_-`), `nine` (nine letters and
    digits) or `functions` (`functions.NAME:INDEX`, where the index counts the calls of the context). None means the
    form of the dialect: `nine` in Chat Completions, `short` in the others."""
    strict_roles: bool = False
    """Whether, in Chat Completions, the system prompt has to be one text at the start, followed by messages of the user
    and the assistant in turn, as in the chat templates of many open models. True for every model in the catalog, unless
    its row or its provider's row sets it to false."""
    tools_without_reasoning: bool = False
    """Whether `none` is the only effort that the model accepts together with tools in this dialect."""
    tools_forced: bool = True
    """Whether `tool_choice` may force a tool."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The field of a request in Chat Completions that bounds the answer."""
    renames: dict[str, str] = {}
    """Map from a parameter's name in Chat Completions to the provider's name, where they differ."""
    usage_asked: bool = True
    """Whether usage has to be requested. If False, the provider rejects the request option and always sends usage."""
    drops: frozenset[str] = frozenset()
    """Parameters that the model rejects. They are left out of its requests."""
    drops_thinking: frozenset[str] = frozenset()
    """Parameters that the model rejects unless `params.reasoning` is `none`."""
    think_tags: bool = False
    """Whether the host may send reasoning at the start of the text, in tags such as `<think>…</think>`. By default, this
    is so in Chat Completions, Responses and Messages if the base URL isn't in the shipped catalog."""
    think_opened: bool = False
    """Whether the prompt has the opening tag, so that the text begins with reasoning. With `think_tags` only."""
    usage_has_cost: bool = False
    """Whether `usage.cost` is the cost of the request, in US dollars."""
    usage_excludes_reasoning: bool = False
    """Whether `completion_tokens` or, in Responses, `output_tokens` excludes reasoning tokens. `total_tokens`, if sent,
    includes them."""
    ends_without_finish: bool = False
    """Whether a stream that ends without a finish reason is complete."""
    prompt_cache: PromptCache = ""
    """How a request asks the provider to cache its prompt. In Messages: `request` (the field `cache_control` of the
    request) or `blocks` (only the field `cache_control` of single blocks, which every host of this API takes). Empty: not
    at all. In the other dialects, most providers cache without being asked, and this quirk has no effect."""
    background: bool = False
    """Whether, in Responses, the provider completes and keeps the answer, so that another instance can resume it."""
    prefill_mark: Literal["", "prefix", "partial"] = ""
    """The field that marks the last message of a request in Chat Completions as the start of the answer, if the provider
    needs one."""
    prefill_body: dict[str, Any] = {}
    """Additional fields for the body of a request in Chat Completions that has the start of the answer."""
    prefill_path: str = ""
    """The path of the API that takes a request with the start of the answer, if it isn't that of the base URL. It
    replaces a `/v1` at the end of the base URL."""
    prefill_echoed: bool = False
    """Whether an answer repeats the start that the request gave it."""
    stream_options: dict[str, Any] = {}
    """Additional `stream_options` of every request in Chat Completions."""
    body: dict[str, Any] = {}
    """Additional fields for every request body in Chat Completions and Responses."""
    tools_body: dict[str, Any] = {}
    """Additional fields for the body of a request with tools in Chat Completions and Responses."""
