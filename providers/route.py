"""Where a request goes: what the catalog knows of a model and its provider, as a dialect needs it.

Pure data and its checks; nothing here reads the environment or opens a connection.
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
)
from providers.token_lower_bound import exceeds_window

WORD = "^[a-z][a-z0-9-]*$"
Feature = Annotated[str, Field(pattern=WORD)]
FEATURES = frozenset({"chat", "streaming", "thinking", "long-context", "tools", "vision", "files", "prefill"})
"""Those that mean something here; any other is a label for the clients."""
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


class Quirks(BaseModel):
    """In what a provider or a model differs from its dialect; a model's quirks win over its provider's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reasoning: ReasoningStyle = "effort"
    """How `params.reasoning` is said: `effort` (`reasoning_effort`), `thinking` (`thinking.type`), `toggle`
    (`enable_thinking`, with `budgets` also `thinking_budget`) and `nested` (`reasoning.effort`) in Chat Completions,
    `effort` in Responses, `adaptive` and `budget` in Messages; `fixed`: the model can't be told."""
    efforts: dict[str, str] = {}
    """Our word for an effort to the model's, where they differ."""
    budgets: dict[str, int] = {}
    """Our word for an effort to a budget in tokens, for the style `toggle`."""
    thinking_off: Literal["disabled", "between_tools", ""] = "disabled"
    """What `params.reasoning: none` sends as the thinking type; empty where thinking can't be turned off."""
    thinking_shown: bool = False
    """The model thinks unasked, and hides it unless told not to."""
    reasoning_back: bool = False
    """The model wants its `reasoning_content` back with the assistant's messages."""
    signed_calls: bool = False
    """Tool calls carry Google's thought signature, and want it back."""
    reasoning_details: bool = False
    """The model wants its `reasoning_details` back, as OpenRouter has them."""
    tools_without_reasoning: bool = False
    """With tools, the only effort that the model takes in this dialect is `none`."""
    tools_forced: bool = True
    """`tool_choice` may force a tool."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    renames: dict[str, str] = {}
    """A parameter's name in Chat Completions to the provider's own, where they differ."""
    usage_asked: bool = True
    """Usage comes only when it is asked for; otherwise asking is refused, and it comes unasked."""
    drops: frozenset[str] = frozenset()
    """Parameters that the model refuses, and that are left out for it."""
    drops_thinking: frozenset[str] = frozenset()
    """Parameters that the model refuses unless `params.reasoning` is `none`."""
    think_tags: bool = False
    """Reasoning stands as `<think>…</think>` at the start of the text."""
    usage_has_cost: bool = False
    """`usage.cost` is what the request costs, in US dollars."""
    usage_excludes_reasoning: bool = False
    """`completion_tokens` leaves out the reasoning; `total_tokens`, where it is told, doesn't."""
    ends_without_finish: bool = False
    """A stream that ends without a finish reason has ended well."""
    background: bool = False
    """In Responses: the provider keeps the answer and makes it to its end, so that another instance can go on with it."""
    stream_options: dict[str, Any] = {}
    body: dict[str, Any] = {}
    """More fields for every request body."""
    tools_body: dict[str, Any] = {}
    """More fields for the body of a request with tools."""


SECRET_CHARS_MIN = 16
"""A shorter header or option is a name or a region, and no secret."""

Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """What a million tokens cost, in US dollars. Cached input costs as much as other input where nothing is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Amount
    output: Amount
    cached: Amount | None = None
    cache_write: Amount | None = None
    currency: str = "USD"

    @field_validator("currency")
    @classmethod
    def _only_one(cls, currency: str) -> str:
        """Sums over turns are of one currency."""
        if currency != "USD":
            raise ValueError("prices are in US dollars (USD): convert this one")
        return currency

    def shown(self) -> dict[str, str]:
        """As a client sees it: decimal text."""
        return {name: str(value) for name, value in self if value is not None}


class Endpoint(Struct, frozen=True):
    """A provider as this process reaches it. `keys` are variables' names; what they hold is never shown."""

    provider: str
    title: str
    base_url: str
    keys: tuple[str, ...]
    api_keys: tuple[str, ...] = ()
    """All of them stand for the same provider and may be used in turn."""
    headers: dict[str, str] = {}
    """Sent with every request."""
    options: dict[str, str] = {}
    """What else the client of a cloud needs: a region, a project, credentials."""
    hint: str = ""
    """A sentence for who has a key that is refused."""
    proxy: str = ""
    """The HTTP proxy that requests go through."""

    @property
    def api_key(self) -> str:
        """The first key, or an empty text."""
        return self.api_keys[0] if self.api_keys else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read, in a log or elsewhere."""
        kept = (*self.headers.values(), *self.options.values(), self.proxy)
        return (*self.api_keys, *(value for value in kept if len(value) >= SECRET_CHARS_MIN))

    def __repr__(self) -> str:
        return f"Endpoint({self.provider!r}, keys={len(self.api_keys) or 'none'})"


class Route(Struct, frozen=True):
    """The model that an id stands for, and how to ask it. `model` is the provider's own name for it."""

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
    """The catalog's, for a model that no list of prices knows."""
    own_price: Price | None = None
    """The operator's, which wins over any other."""
    price_list: str = ""
    """The provider's name in `genai-prices`, where it is there."""
    fallbacks: tuple[str, ...] = ()
    """Ids of the models to ask, in this order, where this one can't answer."""

    @property
    def thinks(self) -> bool:
        """Whether the model may be silent for long before its first token."""
        return "thinking" in self.features

    def check(self, request: ChatRequest) -> None:
        """Raise `ProviderError` for a request that the model can't take: unsupported or out of range."""
        if "vision" not in self.features and any(isinstance(part, ImagePart) for part in _parts(request)):
            raise ProviderError(
                "unsupported", f"The model {self.id} can't see images: leave them out, or choose a model with vision."
            )
        if "tools" not in self.features and request.tools:
            raise ProviderError(
                "unsupported", f"The model {self.id} can't call tools: leave them out, or choose a model with tools."
            )
        forced = request.tool_choice == "required" or isinstance(request.tool_choice, ToolName)
        if forced and not self.quirks.tools_forced:
            raise ProviderError(
                "unsupported",
                f"The model {self.id} can't be made to call a tool: leave out tool_choice, or use auto.",
            )
        for part in _parts(request):
            if isinstance(part, FilePart):
                self._check_file(part)
        if request.params.response_format is not None:
            self._check_format(request.params.response_format)
        most, wanted = self.max_output, request.params.max_tokens
        if most is not None and wanted is not None and wanted > most:
            raise ProviderError(
                "invalid_request",
                f"The model {self.id} answers with {most} tokens at most: ask for no more in params.max_tokens.",
            )

    def check_length(self, request: ChatRequest) -> None:
        """Raises `ProviderError` for what is too long for the model in any case. It looks at all of a long text."""
        if self.context_window is not None and exceeds_window(request, self.context_window):
            raise ProviderError(
                "context_length_exceeded",
                f"This is too long for the model {self.id}, which takes {self.context_window} tokens: shorten it, "
                "or choose a model with a larger context.",
            )

    def _check_format(self, wanted: dict[str, Any]) -> None:
        if not isinstance(wanted.get("type"), str):
            raise ProviderError("invalid_request", "params.response_format has no type: give it one, like json_schema.")
        if not self.dialect.startswith("anthropic") or wanted["type"] == "text":
            return
        if wanted["type"] != "json_schema":
            raise ProviderError(
                "unsupported",
                f"The model {self.id} takes a response_format of type json_schema only: change it or leave it out.",
            )
        if schema_of(wanted) is None:
            raise ProviderError("invalid_request", "params.response_format has no schema: put it into json_schema.")

    def _check_file(self, file: FilePart) -> None:
        if self.dialect == "demo":
            return
        if "files" not in self.features:
            raise ProviderError("unsupported", f"The model {self.id} can't read files: send their text instead.")
        if self.dialect == "openai_chat" and file.data is None:
            raise ProviderError(
                "unsupported", f"The model {self.id} takes a file by its data only, not by its url: send the data."
            )
        text = file.media_type.startswith("text/") and file.data is not None
        if self.dialect.startswith("anthropic") and file.media_type != "application/pdf" and not text:
            raise ProviderError(
                "unsupported",
                f"The model {self.id} can't read files of type {file.media_type[:80]}: send a PDF, or text as data.",
            )


def schema_of(response_format: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON schema that an answer is to follow, in either of OpenAI's spellings."""
    inner = response_format.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else response_format.get("schema")
    return schema if isinstance(schema, dict) else None


def _parts(request: ChatRequest) -> Iterable[Part]:
    return (part for message in request.messages for part in message.parts)


class ModelInfo(Struct, frozen=True, kw_only=True):
    """One model as a client may choose it. `type` is its provider; `key` the variable that it needs.

    `price` is what a million tokens cost: `input`, `output`, `cached` and `cache_write` as decimal text, `currency`.
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


class Timeouts(Struct, frozen=True):
    """How long a provider may be silent."""

    connect_s: float = 5.0
    first_event_s: float = 60.0
    first_event_reasoning_s: float = 300.0
    between_events_s: float = 60.0

    def first_s(self, route: Route) -> float:
        """How long the first event of this model may take."""
        return self.first_event_reasoning_s if route.thinks else self.first_event_s


class Dialect(Protocol):
    """One client of one endpoint, for all of its models: what stands behind a `Provider`."""

    async def answer(self, request: ChatRequest, route: Route, sink: DeltaSink) -> None: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Stoppable(Protocol):
    """A dialect whose answers go on after the connection is closed."""

    async def stop(self, cursor: ResponseHandle) -> None:
        """End the answer at the provider. Raises `ProviderError`."""
