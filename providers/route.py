"""Routes and endpoints: what a dialect needs to know about a model and its provider, from the catalog.

This module holds only data, checks and the interface of a dialect. It never reads the environment or opens a connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field, field_validator

from providers.base import (
    ChatRequest,
    DeltaSink,
    FilePart,
    ImagePart,
    Part,
    ProviderError,
    ResponseHandle,
    ToolName,
    too_long,
)
from providers.token_lower_bound import exceeds_window

WORD = "^[a-z][a-z0-9-]*$"
Feature = Annotated[str, Field(pattern=WORD)]
FEATURES = frozenset({"chat", "streaming", "thinking", "long-context", "tools", "vision", "files", "prefill"})
"""The features that the catalog uses. An operator may add others, which are only labels for clients."""
DialectName = Literal[
    "demo",
    "openai_chat",
    "openai_responses",
    "anthropic",
    "anthropic_bedrock",
    "anthropic_vertex",
    "anthropic_foundry",
]
ReasoningStyle = Literal["effort", "thinking", "toggle", "nested", "adaptive", "budget", "fixed"]
Continue = Literal["", "prefill", "instruct", "off"]
"""How an answer that broke off may be continued: `prefill` (only by models that take its start), `instruct` (by other
models too, with an instruction) or `off`. Empty means `prefill`."""
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
    is so in Chat Completions, Responses and Messages if the base URL isn't one of the shipped catalog."""
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
    """Whether an answer whose start was sent repeats that start."""
    stream_options: dict[str, Any] = {}
    body: dict[str, Any] = {}
    """Additional fields for every request body in Chat Completions and Responses."""
    tools_body: dict[str, Any] = {}
    """Additional fields for the body of a request with tools in Chat Completions and Responses."""


SECRET_CHARS_MIN = 16
"""The length in characters from which a header, an option or a proxy's URL is a secret. Shorter ones are names or regions."""

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """The price of a million tokens, in US dollars. Without prices of their own, cache reads and writes cost as much as input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Amount
    output: Amount
    cached: Amount | None = None
    cache_write: Amount | None = None
    currency: str = "USD"

    @field_validator("currency")
    @classmethod
    def _require_usd(cls, currency: str) -> str:
        """Reject any currency but US dollars, because the costs of turns are summed up in one currency."""
        if currency != "USD":
            raise ValueError("prices must be in US dollars (USD). Convert this one")
        return currency

    def as_text(self) -> dict[str, str]:
        """Return the price as clients see it: a dict from each given field's name to its value as text."""
        return {name: str(value) for name, value in self if value is not None}


class Endpoint(Struct, frozen=True):
    """The way in which this process reaches a provider. `keys` are the names of variables; their values are never shown."""

    provider: str
    title: str
    base_url: str
    keys: tuple[str, ...]
    api_keys: tuple[str, ...] = ()
    """The API keys of this provider. They are interchangeable and may be used in rotation."""
    headers: dict[str, str] = {}
    """Headers that are sent with every request."""
    options: dict[str, str] = {}
    """Other settings that the client of a cloud needs: a region, a project, credentials."""
    hint: str = ""
    """A sentence that is appended to the error message if a key is rejected."""
    proxy: str = ""
    """The URL of the HTTP proxy for requests. Empty if there is none."""

    @property
    def api_key(self) -> str:
        """The first API key, or an empty string."""
        return self.api_keys[0] if self.api_keys else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must not appear in a log or anywhere else: keys, long headers and options, a long proxy."""
        values = (*self.headers.values(), *self.options.values(), self.proxy)
        return (*self.api_keys, *(value for value in values if len(value) >= SECRET_CHARS_MIN))

    def __repr__(self) -> str:
        return f"Endpoint({self.provider!r}, keys={len(self.api_keys) or 'none'})"


class Route(Struct, frozen=True):
    """The model that an id refers to, and how to call it. `model` is the provider's own name for the model."""

    id: str
    model: str
    provider: str
    title: str
    dialect: DialectName
    features: tuple[Feature, ...]
    quirks: Quirks
    context_window: int | None = None
    max_output: int | None = None
    price: Price | None = None
    """The catalog's price, for a model that isn't in any price list."""
    own_price: Price | None = None
    """The operator's price, which overrides any other."""
    price_list: str = ""
    """The provider's name in `genai-prices`. Empty if the provider isn't in it."""
    fallbacks: tuple[str, ...] = ()
    """Ids of the models to try, in this order, if this model can't answer."""
    continues: Continue = ""
    """How the operator allows an answer that broke off to be continued."""

    @property
    def thinks(self) -> bool:
        """Whether the model is a thinking model, which may be silent for a long time before its first token."""
        return "thinking" in self.features

    @property
    def continuation(self) -> Literal["prefill", "instruct"] | None:
        """The way in which this model continues an answer that broke off: from a prefix, by an instruction, or not at all."""
        if self.continues == "off":
            return None
        if "prefill" in self.features and self.dialect != "openai_responses":
            return "prefill"
        return "instruct" if self.continues == "instruct" else None

    def takes(self, part: Part) -> bool:
        """Return whether the model can take `part`, if it is an image or a file. Other parts are always taken."""
        if isinstance(part, ImagePart):
            return "vision" in self.features
        if isinstance(part, FilePart):
            try:
                self._check_file(part)
            except ProviderError:
                return False
        return True

    def check(self, request: ChatRequest) -> None:
        """Raise `ProviderError` if the model can't take something in `request`: it is unsupported or out of range."""
        if "vision" not in self.features and any(isinstance(part, ImagePart) for part in _parts(request)):
            raise ProviderError(
                "unsupported", f"The model {self.id} can't see images. Leave them out, or choose a model with vision."
            )
        if "tools" not in self.features and request.tools:
            raise ProviderError(
                "unsupported", f"The model {self.id} can't call tools. Leave them out, or choose a model with tools."
            )
        forced = request.tool_choice == "required" or isinstance(request.tool_choice, ToolName)
        if forced and not self.quirks.tools_forced:
            raise ProviderError(
                "unsupported",
                f"The model {self.id} can't be forced to call a tool. Leave out `tool_choice`, or set it to auto.",
            )
        for part in _parts(request):
            if isinstance(part, FilePart):
                self._check_file(part)
        if request.params.response_format is not None:
            self._check_format(request.params.response_format)
        limit, max_tokens = self.max_output, request.params.max_tokens
        if limit is not None and max_tokens is not None and max_tokens > limit:
            raise ProviderError(
                "invalid_request",
                f"The model {self.id} answers with {limit} tokens at most. Lower `params.max_tokens`.",
            )

    def check_length(self, request: ChatRequest) -> None:
        """Raise `ProviderError` if `request` can't fit the context window with any tokenizer. This may scan a long text."""
        if self.context_window is not None and exceeds_window(request, self.context_window):
            raise ProviderError(
                "context_length_exceeded",
                too_long(f"the model {self.id}, which takes {self.context_window} tokens"),
            )

    def _check_format(self, response_format: dict[str, Any]) -> None:
        if not isinstance(response_format.get("type"), str):
            raise ProviderError("invalid_request", "`params.response_format` has no type. Add one, like json_schema.")
        if not self.dialect.startswith("anthropic") or response_format["type"] == "text":
            return
        if response_format["type"] != "json_schema":
            raise ProviderError(
                "unsupported",
                f"The model {self.id} takes only a `response_format` of type json_schema. Change it, or leave it out.",
            )
        if find_schema(response_format) is None:
            raise ProviderError("invalid_request", "`params.response_format` has no schema. Add it in json_schema.")

    def _check_file(self, file: FilePart) -> None:
        if self.dialect == "demo":
            return
        if "files" not in self.features:
            raise ProviderError("unsupported", f"The model {self.id} can't read files. Send their text instead.")
        if self.dialect == "openai_chat" and file.data is None:
            raise ProviderError(
                "unsupported", f"The model {self.id} takes a file only as `data`, not as `url`. Send the data."
            )
        is_text = file.media_type.startswith("text/") and file.data is not None
        if self.dialect.startswith("anthropic") and file.media_type != "application/pdf" and not is_text:
            raise ProviderError(
                "unsupported",
                f"The model {self.id} can't read files of type {file.media_type[:80]}. Send a PDF, or text as `data`.",
            )


def find_schema(response_format: dict[str, Any]) -> dict[str, Any] | None:
    """Return the JSON schema of `response_format`, in either of OpenAI's two forms. None if it has no schema."""
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else response_format.get("schema")
    return schema if isinstance(schema, dict) else None


def _parts(request: ChatRequest) -> Iterable[Part]:
    return (part for message in request.messages for part in message.parts)


class ModelInfo(Struct, frozen=True, kw_only=True):
    """A model as listed to clients. `type` is its provider; `key` is the name of the variable of its API key.

    `price` is the price of a million tokens: `input`, `output`, `cached` and `cache_write` as decimal text, and
    `currency`. `legacy`: the model is outdated, and its provider may have retired it. `continues`: whether the model can go
    on from the start of an answer.
    """

    id: str
    name: str
    type: str
    key: str | None
    features: tuple[Feature, ...]
    context_window: int | None
    max_output: int | None
    price: dict[str, str] | None = None
    aliases: tuple[str, ...] = ()
    available: bool
    legacy: bool = False
    continues: bool = False


class Timeouts(Struct, frozen=True):
    """The limits on how long a provider may be silent."""

    connect_s: float = 5.0
    first_event_s: float = 60.0
    first_event_reasoning_s: float = 300.0
    between_events_s: float = 60.0
    alive_s: float = 300.0
    """The limit on silence while pings, comments or the like show that the provider is alive."""

    def first_event_timeout_s(self, route: Route) -> float:
        """Return how many seconds the first event of this route's model may take."""
        return self.first_event_reasoning_s if route.thinks else self.first_event_s


class Dialect(Protocol):
    """A client of one endpoint, for all of its models. A `Provider` calls it with a route."""

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Stoppable(Protocol):
    """A dialect whose provider may continue an answer after the connection is closed."""

    async def stop(self, handle: ResponseHandle) -> None:
        """Stop the answer with this response handle at the provider. Raise `ProviderError` on failure."""
