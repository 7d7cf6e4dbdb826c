"""The table of settings in docs/operations.md. It is generated from `Settings`; its last column is written by hand.

`make settings` generates it; tests/test_operations_docs.py checks that it matches the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from gateway.settings import Settings, environment_variables

DOCUMENT = Path(__file__).parents[1] / "docs" / "operations.md"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->\n"
HEAD = "| variable | default | type | description |\n|---|---|---|---|\n"
WORDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def table(descriptions: dict[str, str]) -> str:
    """Return the table. `descriptions` maps the first variable of each setting to its description."""
    rows = []
    for name, field in Settings.model_fields.items():
        variables = environment_variables(name)[1]
        shown = " or ".join(f"`{variable}`" for variable in variables)
        default = default_of(field)
        rows.append(
            f"| {shown} | {default and f'`{default}`'} | {_accepted_values(field)} | {descriptions.get(variables[0], '')} |\n"
        )
    return HEAD + "".join(rows)


def split_document(text: str) -> tuple[str, str, str]:
    """Return the document's text before the table, the table, and the text after it."""
    before, _, rest = text.partition(BEGIN)
    inside, _, after = rest.partition(END)
    return before + BEGIN, inside, END + after


def descriptions_of(inside: str) -> dict[str, str]:
    """Return the cells of the last column, by the first variable of each row."""
    rows = re.findall(r"^\| `(\w+)`.*\| ([^|]*) \|$", inside, re.MULTILINE)
    return {variable: description for variable, description in rows if variable != "variable"}


def updated_document() -> str:
    """Return the whole document with a newly generated table."""
    before, inside, after = split_document(DOCUMENT.read_text(encoding="utf-8"))
    return before + table(descriptions_of(inside)) + after


def default_of(field: FieldInfo) -> str:
    """The default as the value of a variable; empty if there is none."""
    default = field.default
    if default is None:
        return ""
    return (
        ",".join(default) if isinstance(default, tuple) else str(int(default) if isinstance(default, bool) else default)
    )


def _accepted_values(field: FieldInfo) -> str:
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    kind = kinds[0]
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if field.annotation is bool:
        return "`0`, `1`"
    if get_origin(field.annotation) is tuple:
        return "comma-separated list"
    bounds = [
        f"{sign} {limit}"
        for mark in field.metadata
        for attribute, sign in WORDS.items()
        if (limit := getattr(mark, attribute, None)) is not None
    ]
    length = [f"≥ {mark.min_length} characters" for mark in field.metadata if getattr(mark, "min_length", None)]
    name = {int: "integer", float: "number", str: "text"}.get(kind, "decimal number")
    return ", ".join([name, *bounds, *length])


if __name__ == "__main__":
    DOCUMENT.write_text(updated_document(), encoding="utf-8")
