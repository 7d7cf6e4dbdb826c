"""The price of a model's tokens, as the catalog and operators give it. `providers/catalog/costs.py` computes costs from it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

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
