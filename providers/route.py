"""Where a request goes: what the catalog knows of a model and its provider, as a dialect needs it.

Pure data and one check; nothing here reads the environment or opens a connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from providers.base import ChatRequest, Delta, FilePart, ImagePart, Part, ProviderError, ToolName

Feature = Literal["chat", "streaming", "thinking", "long-context", "tools", "vision", "prefill"]
DialectName = Literal["demo", "openai_chat", "anthropic"]
ReasoningStyle = Literal["effort", "thinking", "adaptive", "budget", "fixed"]


class Quirks(BaseModel):
    """In what a provider or a model differs from its dialect; a model's quirks win over its provider's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reasoning: ReasoningStyle = "effort"
    """How `params.reasoning` is said: `effort` and `thinking` in Chat Completions, `adaptive` and `budget` in
    Messages; `fixed`: the model can't be told."""
    efforts: dict[str, str] = {}
    """Our word for an effort to the model's, where they differ."""
    thinking_off: Literal["disabled", "between_tools", ""] = "disabled"
    """What `params.reasoning: none` sends as the thinking type; empty where thinking can't be turned off."""
    thinking_shown: bool = False
    """The model thinks unasked, and hides it unless told not to."""
    reasoning_back: bool = False
    """The model wants its `reasoning_content` back with the assistant's messages."""
    tools_without_reasoning: bool = False
    """With tools, the only effort that the model takes in this dialect is `none`."""
    tools_forced: bool = True
    """`tool_choice` may force a tool."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    drops: frozenset[str] = frozenset()
    """Parameters that the model refuses, and that are left out for it."""
    drops_thinking: frozenset[str] = frozenset()
    """Parameters that the model refuses unless `params.reasoning` is `none`."""
    think_tags: bool = False
    """Reasoning stands as `<think>…</think>` at the start of the text."""
    usage_excludes_reasoning: bool = False
    """`completion_tokens` leaves out the reasoning."""
    ends_without_finish: bool = False
    """A stream that ends without a finish reason has ended well."""
    stream_options: dict[str, Any] = {}
    body: dict[str, Any] = {}
    """More fields for every request body."""
    tools_body: dict[str, Any] = {}
    """More fields for the body of a request with tools."""


Amount = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """What a million tokens cost. Cached input costs as much as other input where nothing else is said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Amount
    output: Amount
    cached: Amount | None = None
    cache_write: Amount | None = None
    currency: str = Field(default="USD", pattern="^[A-Z]{3}$")


class Endpoint(Struct, frozen=True):
    """A provider as this process reaches it. `keys` are variables' names; what they hold is never shown."""

    provider: str
    title: str
    base_url: str
    keys: tuple[str, ...]
    api_keys: tuple[str, ...] = ()
    """All of them stand for the same provider and may be used in turn."""

    @property
    def api_key(self) -> str:
        """The first key, or an empty text."""
        return self.api_keys[0] if self.api_keys else ""

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
    fallbacks: tuple[str, ...] = ()
    """Ids of the models to ask, in this order, where this one can't answer."""

    @property
    def thinks(self) -> bool:
        """Whether the model may be silent for long before its first token."""
        return "thinking" in self.features

    def check(self, request: ChatRequest) -> None:
        """Raise `ProviderError` "unsupported" for a request that the model can't take."""
        if "vision" not in self.features and any(isinstance(part, ImagePart) for part in _parts(request)):
            raise ProviderError(
                "unsupported",
                f"The model {self.id} can't see images: leave them out, or choose a model with vision.",
            )
        if "tools" not in self.features and request.tools:
            raise ProviderError(
                "unsupported",
                f"The model {self.id} can't call tools: leave them out, or choose a model with tools.",
            )
        forced = request.tool_choice == "required" or isinstance(request.tool_choice, ToolName)
        if forced and not self.quirks.tools_forced:
            raise ProviderError(
                "unsupported",
                f"The model {self.id} can't be made to call a tool: leave out tool_choice, or use auto.",
            )
        if self.dialect != "demo" and any(isinstance(part, FilePart) for part in _parts(request)):
            raise ProviderError("unsupported", f"Files can't be sent to the model {self.id}: send their text instead.")


def _parts(request: ChatRequest) -> Iterable[Part]:
    return (part for message in request.messages for part in message.parts)


class ModelInfo(Struct, frozen=True, kw_only=True):
    """One model as a client may choose it. `type` is its provider; `key` the variable that it needs."""

    id: str
    name: str
    type: str
    key: str | None
    features: tuple[Feature, ...]
    context_window: int | None
    max_output: int | None
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

    def stream(self, request: ChatRequest, route: Route) -> AsyncIterator[list[Delta]]: ...

    async def aclose(self) -> None: ...


class ProviderRow(BaseModel):
    """A provider, as `catalog.toml` lists it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    dialect: DialectName
    base_url: str = ""
    base_url_variables: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    key_optional: bool = False
    patterns: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ("chat", "streaming")
    quirks: dict[str, Any] = {}


class ModelRow(BaseModel):
    """A model, as `catalog.toml` lists it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    provider: str
    features: tuple[Feature, ...]
    context_window: int | None = Field(default=None, gt=0)
    max_output: int | None = Field(default=None, gt=0)
    price: Price | None = None
    fallbacks: tuple[str, ...] = ()
    quirks: dict[str, Any] = {}
