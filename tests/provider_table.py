"""The provider table in docs/providers.md, built from the catalog. Print it with `python -m tests.provider_table`."""

from __future__ import annotations

from providers.catalog.schema import ProviderRow, shipped_rows
from providers.quirks import Quirks

STYLES = {
    "effort": "`reasoning_effort`",
    "thinking": "`thinking.type`",
    "toggle": "`enable_thinking`",
    "nested": "`reasoning.effort`",
    "adaptive": "`thinking` adaptive",
    "budget": "`thinking` by budget",
    "fixed": "not configurable",
}
IN_OTHER_COLUMNS = {"reasoning", "efforts", "budgets", "thinking_off"}


def table() -> list[str]:
    """Return the rows of the table."""
    rows = shipped_rows().providers
    return [_row(name, row) for name, row in rows.items() if row.dialect != "demo"]


def _row(name: str, row: ProviderRow) -> str:
    quirks = Quirks.model_validate(row.quirks)
    base = f"as `{row.variant_of}`" if row.variant_of else ""
    cells = (
        f"`{name}`",
        " ".join(f"`{also}`" for also in row.also),
        _variables((*row.keys, *row.credentials), optional=row.key_optional)
        + "".join(f"; {_variables(row.options[option])}" for option in row.required),
        _variables((*row.base_url_variables, *_within(row.base_url))),
        base or STYLES[quirks.reasoning],
        base or ", ".join(f"`{quirk}`" for quirk in sorted(quirks.model_fields_set - IN_OTHER_COLUMNS)),
    )
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _variables(names: tuple[str, ...], *, optional: bool = False) -> str:
    return " or ".join(f"`{name}`" for name in names) + (" (optional)" if optional else "")


def _within(url: str) -> tuple[str, ...]:
    return tuple(part.partition("}")[0] for part in url.split("{")[1:])


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201
