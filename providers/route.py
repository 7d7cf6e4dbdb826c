"""The route to a model: what the catalog says about the model, and whether the model can take a request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import Struct
from pydantic import Field

from providers.base import ChatRequest, FilePart, ImagePart, Part, ProviderError, ToolName, too_long
from providers.price import Price
from providers.quirks import Quirks
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
Continue = Literal["", "prefill", "instruct", "off"]
"""How an answer that broke off may be continued: `prefill` (only by models that take its start), `instruct` (by other
models too, with an instruction) or `off`. Empty means `prefill`."""


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
