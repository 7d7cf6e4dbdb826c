"""Check README.md against the repository: its links, variables, models, folders and figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.report import BEGIN, END, RESULTS, table
from gateway.settings import Settings, environment_variables
from providers.catalog.catalog import Catalog
from providers.catalog.schema import shipped_rows
from tests.answers import every_key

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES_MAX = 229
"""Lines beside the table of figures, whose length is that of the bench's report."""
VARIABLE = re.compile(r"(?<![\w$])(?:[A-Z]+_[A-Z_]+|HOST|PORT)(?!\w)")
OF_THE_PROXY = {"TURNWIRE_KEY", "USERS"}
"""Variables of examples/go-proxy."""


def section(title: str) -> str:
    """Return the text below a heading."""
    found = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, f"no section {title}"
    return found


def test_it_is_short() -> None:
    """Check the number of lines: whatever is needed only later belongs in docs/."""
    assert len((TEXT.partition(BEGIN)[0] + TEXT.partition(END)[2]).splitlines()) <= LINES_MAX


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", TEXT))))
def test_links_lead_somewhere(target: str) -> None:
    """Check that a linked file exists."""
    assert (ROOT / target).exists()


@pytest.mark.parametrize(("path", "anchor"), sorted(set(re.findall(r"\]\(([\w/]+\.md)#([\w-]+)\)", TEXT))))
def test_anchors_are_headings(path: str, anchor: str) -> None:
    """Check that a linked part of a document exists."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_variable_is_a_setting_or_a_key() -> None:
    """Check that each variable is read by the gateway, by a provider, or by the example of a proxy."""
    known = {variable for name in Settings.model_fields for variable in environment_variables(name)[1]}
    known |= {variable for row in shipped_rows().providers.values() for variable in row.keys}
    named = set(VARIABLE.findall(TEXT))
    assert len(named) > 20
    assert named - known - OF_THE_PROXY == set()


def test_the_defaults_in_the_table_are_the_code_s() -> None:
    """Check each row of the table of settings whose default is a value."""
    rows = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \| `([^`]+)`(?:, `([^`]+)`)? \|", section("Configure"), re.MULTILINE)
    shown = {
        name: value for first, second, *values in rows for name, value in zip((first, second), values, strict=True)
    }
    shown.pop("", None)
    assert len(shown) > 4
    fields = Settings.model_fields.items()
    defaults = {variable: field.default for name, field in fields for variable in environment_variables(name)[1]}
    for variable, value in shown.items():
        default = defaults[variable]
        said = ",".join(default) if isinstance(default, tuple) else str(int(default) if default is False else default)
        assert said == value, variable
    assert f"`TURNWIRE_STORE` or `REDIS_URL` | `{Settings.model_validate({}).store_url}` |" in section("Configure")


def test_the_models_in_the_text_exist() -> None:
    """Check that the example of an id is in the catalog, and that the example of a provider's model is accepted."""
    catalog = Catalog(every_key())
    listed, unlisted = re.findall(r"\(`([\w./-]+)`\)", section("Models").partition("**Keys.**")[0])
    assert listed in {row.id for row in shipped_rows().models}
    assert catalog.resolve(unlisted).provider == unlisted.partition("/")[0]


def test_folders_are_there() -> None:
    """Check each folder and each of its parts that the last section names."""
    folder = ""
    for line in section("Where things are").splitlines():
        names = re.findall(r"`([\w./]+)`", line.partition("[")[0])
        folders = [name for name in names if name.endswith("/")]
        for name in names:
            folder = folders[0] if folders else folder
            assert (ROOT / (name if name in folders else folder + name)).exists(), name
    assert set(re.findall(r"`(\w+)`", section("Where things are").splitlines()[1])) == {
        path.name for path in (ROOT / "gateway").iterdir() if len(list(path.glob("*.py"))) > 1
    }


def test_the_figures_are_those_of_the_last_bench() -> None:
    """Check that the report on bench/results.json is the block in the README."""
    block = TEXT.partition(BEGIN)[2].partition(END)[0].strip()
    assert block == table(json.loads(RESULTS.read_text(encoding="utf-8")))
