"""Check the fields of the operator's file. An error gives a field the name that it has in the file."""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from providers.catalog.schema import ADDRESS, VARIABLE
from providers.route import WORD

_FIELD_NAMES: Final = {
    "type": "provider",
    "envKey": "env_key",
    "supportsThinkingMode": "thinking",
    "contextWindow": "context_window",
    "maxOutput": "max_output",
    "defaultModel": "default_model",
    "continue": "continues",
}
"""Map from the field names in JSON files of other software, and from words that Python reserves, to ours."""
_ERROR_TEXTS: Final = {
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "extra_forbidden": "unknown field. Remove it",
    "missing": "the field is missing. Add it",
}
_PATTERN_TEXTS: Final = {
    VARIABLE: "must be the name of an environment variable, not its value",
    ADDRESS: "must begin with http:// or https://",
    WORD: "must be a word in lowercase",
}
"""Map from a pattern to the error text for a value that doesn't match it."""

_Row = TypeVar("_Row", bound=BaseModel)


class FieldChecks:
    """The checks of one file. They add to `errors`: each error names a field, and says what is wrong with it."""

    def __init__(self, errors: list[str]) -> None:
        self._errors = errors

    def validate(
        self,
        kind: type[_Row],
        fields: Any,
        where: str,
        original: object = None,
        defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> _Row | None:
        """Return `fields` as a `kind`. Record errors, and drop invalid fields or take them from `defaults`.

        Return None if the rest isn't valid. `original` is the row with the file's field names, which the errors use. The
        errors don't quote the file's values.
        """
        try:
            return kind.model_validate(fields)
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
        names = original if isinstance(original, dict) else {}
        original_names = {_FIELD_NAMES[name]: name for name in names if name in _FIELD_NAMES}
        for fault in errors:
            first, *rest = fault["loc"] or ("",)
            steps = (original_names.get(str(first), first), *rest)
            path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
            text = (
                _ERROR_TEXTS.get(fault["type"])
                or _PATTERN_TEXTS.get(fault.get("ctx", {}).get("pattern", ""))
                or fault["msg"].removeprefix("Value error, ")
            )
            self._errors.append(f"{(where + path).strip('.')}: {text}")
        invalid = {fault["loc"][0] for fault in errors if fault["loc"]}
        fields = fields if isinstance(fields, dict) else {}
        valid = {name: value for name, value in fields.items() if name not in invalid}
        try:
            return kind.model_validate({**defaults, **valid})
        except ValidationError:
            return None


def rename_fields(entry: Any, renamed: Container[str] = _FIELD_NAMES) -> Any:
    """Return `entry` with our names for those of its fields that are in `renamed`."""
    if not isinstance(entry, dict):
        return entry
    return {_FIELD_NAMES[name] if name in renamed else name: value for name, value in entry.items()}
