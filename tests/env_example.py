"""The file `.env.example`: every setting with its default, and every variable of a provider. All of it is commented out.

`make settings` generates it; tests/test_operations_docs.py checks that it matches the code.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath
from textwrap import wrap

from gateway.settings import Settings, environment_variables
from providers.catalog.endpoints import resolve_variant, variables_of
from providers.catalog.schema import shipped_rows
from tests.settings_table import DOCUMENT, default_of, descriptions_of, split_document

FILE = Path(__file__).parents[1] / ".env.example"
WIDTH = 118
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)[^)]*\)")
"""A link in docs/operations.md. Only its target is kept, as a path from the root of the repository."""
HEAD = """\
# Copy this file to .env in the directory in which Turnwire runs: `turnwire` reads it at the start. Variables of the
# environment override it. Remove the "# " before what you set, and let nobody else read the file: chmod 600 .env

## Providers: one key is enough, and the demo model needs none

"""


def example() -> str:
    """Return the text of the file."""
    rows = shipped_rows().providers
    providers = {row.title: sorted(variables_of(resolve_variant(row, rows))) for row in rows.values() if not row.hidden}
    text = HEAD
    for title, variables in providers.items():
        if variables:
            text += f"# {title}\n" + "".join(f"# {variable}=\n" for variable in variables) + "\n"
    text += "## Settings, with their defaults; docs/operations.md explains them\n"
    described = descriptions_of(split_document(DOCUMENT.read_text(encoding="utf-8"))[1])
    for name, field in Settings.model_fields.items():
        variable, *others = environment_variables(name)[1]
        words = LINK.sub(lambda link: normpath(f"docs/{link[1]}"), described.get(variable, ""))
        words = re.sub(r"[`*]|\\(?=\|)", "", words)
        words += f" (other name: {', '.join(others)})" if others else ""
        text += "\n" + "".join(f"# {line}\n" for line in wrap(words, WIDTH)) + f"# {variable}={default_of(field)}\n"
    return text


if __name__ == "__main__":
    FILE.write_text(example(), encoding="utf-8")
