"""Check README.md against the repository: its links, variables, models, folders and figures."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from bench.report import BEGIN, END, RESULTS, table
from gateway import __version__
from gateway.settings import Settings, environment_variables
from providers.catalog.catalog import Catalog
from providers.catalog.schema import shipped_rows
from tests.upstream_providers import every_key

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CHANGELOG_LINES_MAX = 60
LINES_MAX = 229
"""The maximum number of lines of README.md, without the figures that `make bench` writes."""
VARIABLE = re.compile(r"(?<![\w$])(?:[A-Z]+_[A-Z_]+|HOST|PORT)(?!\w)")
PROMISE = re.compile(
    r"(?:cost|costs|costing) nothing|(?:nothing|no (?:text|token|character|event|message)) (?:is|gets) (?:ever )?lost|never los|"
    r"at any moment|\binstantly|\bseamless|\beffortless|\bfor free\b|zero[- ](?:cost|loss|downtime)|bullet-?proof|100 ?%",
    re.IGNORECASE,
)
"""Promises that don't say when they hold."""


def section(title: str) -> str:
    """Return the text below a heading."""
    found = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, f"no section {title}"
    return found


def test_it_is_short() -> None:
    """README.md has a limited number of lines, as details belong in docs/."""
    assert len((TEXT.partition(BEGIN)[0] + TEXT.partition(END)[2]).splitlines()) <= LINES_MAX


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", TEXT))))
def test_linked_files_exist(target: str) -> None:
    """Each linked file exists."""
    assert (ROOT / target).exists()


@pytest.mark.parametrize(("path", "anchor"), sorted(set(re.findall(r"\]\(([\w/]+\.md)#([\w-]+)\)", TEXT))))
def test_linked_headings_exist(path: str, anchor: str) -> None:
    """Each link into a document leads to one of its headings."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_variable_is_a_setting_or_a_key() -> None:
    """Each variable is read by the gateway or by a provider."""
    known = {variable for name in Settings.model_fields for variable in environment_variables(name)[1]}
    known |= {variable for row in shipped_rows().providers.values() for variable in row.keys}
    named = set(VARIABLE.findall(TEXT))
    assert len(named) > 20
    assert named - known == set()


def test_the_defaults_are_those_of_the_code() -> None:
    """Each default value in the table of settings equals the one in the code."""
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
        expected = (
            ",".join(default) if isinstance(default, tuple) else str(int(default) if default is False else default)
        )
        assert expected == value, variable
    assert f"`TURNWIRE_STORE` or `REDIS_URL` | `{Settings.model_validate({}).store_url}` |" in section("Configure")


def test_the_models_in_the_text_exist() -> None:
    """The first example of a model id is in the catalog. The second isn't, but the catalog accepts it."""
    catalog = Catalog(every_key())
    listed, unlisted = re.findall(r"\(`([\w./-]+)`\)", section("Models").partition("**Keys.**")[0])
    assert listed in {row.id for row in shipped_rows().models}
    assert catalog.resolve(unlisted).provider == unlisted.partition("/")[0]


def test_the_listed_folders_and_files_exist() -> None:
    """Each folder and file in the last section exists, and the section lists every package of the gateway."""
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
    """The block in the README is the report on bench/results.json."""
    block = TEXT.partition(BEGIN)[2].partition(END)[0].strip()
    assert block == table(json.loads(RESULTS.read_text(encoding="utf-8")))


def test_the_changelog_is_short_and_has_this_version() -> None:
    """The newest section is that of the version of the code, with a date. The file fits on one screen."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == __version__
    assert date.fromisoformat(newest.group(2)) >= date(2026, 11, 30)
    assert len(text.splitlines()) <= CHANGELOG_LINES_MAX


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_the_links_of_the_documents_lead_somewhere(path: Path) -> None:
    """Each link of a document to a file of the project leads to one, and to one of its headings if it names one."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([\w-]+))?\)", text):
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{target}#{anchor}"


def sentences(text: str) -> list[str]:
    """Return the sentences and table cells of a Markdown text that are long enough to be noticed, without code blocks."""
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=[|-] )", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        for sentence in re.split(r"(?<=[.!?:;])\s+|\|", " ".join(paragraph.split())):
            words = re.sub(r"[`*\[\]]|\(\S+\)", "", sentence).strip(" -")
            if len(words) >= 30:
                found.append(words)
    return found


def test_no_sentence_is_there_twice() -> None:
    """README.md, with the block that `make bench` writes, says everything once."""
    found = sentences(TEXT)
    assert len(found) > 80
    assert [sentence for sentence, times in Counter(found).items() if times > 1] == []


def test_no_promise_lacks_its_conditions() -> None:
    """No text for users has a promise without the conditions under which it holds."""
    patterns = ("README.md", "CHANGELOG.md", "docs/**/*.md", "static/*.html", "static/chat/*.js", "providers/**/*.toml")
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert len(paths) > 30
    found = {str(path): PROMISE.findall(path.read_text(encoding="utf-8")) for path in paths}
    assert {path: promises for path, promises in found.items() if promises} == {}


def test_nothing_is_installed_from_an_index() -> None:
    """No document or message has a command that installs Turnwire by its name: it isn't published, so a package of this name
    would be a stranger's."""
    patterns = ("*.md", "docs/**/*.md", "examples/**/*.md", "gateway/**/*.py", "providers/**/*.py", "static/**/*.html")
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert len(paths) > 200
    assert [
        path for path in paths if re.search(r"pip install (?:-\S+ )*['\"]?turnwire\b", path.read_text(encoding="utf-8"))
    ] == []


def test_the_comparison_is_dated_and_has_its_sources() -> None:
    """Each product of the README's table has a section in docs/comparison.md, with links if it is a product of others."""
    comparison = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    dated = re.search(r"As of (\w+ \d{4}), by", TEXT)
    assert dated is not None
    assert f"in {dated.group(1)}" in comparison
    table = TEXT.partition("| asks the models |")[2].partition("\n\n")[0]
    products = [name.strip("* ") for name in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)][1:]
    headings = re.findall(r"^## (.*)$", comparison, re.MULTILINE)
    assert len(products) == len(headings) == 5
    for product, part in zip(products, re.split(r"^## .*$", comparison, flags=re.MULTILINE)[1:], strict=True):
        assert "https://" in part or "FastAPI" in product, product


def test_the_models_of_the_table_of_losses_are_those_of_the_catalog() -> None:
    """The models that the README names as taking the start of their answer do so, and the others don't."""
    catalog = Catalog(every_key())
    ways = {
        model: catalog.resolve(model).continuation
        for model in (
            *(
                "deepseek-v4",
                "kimi-k3",
                "mistral-large-latest",
                "qwen3-max",
                "claude-sonnet-4-5",
                "vllm/any",
                "groq/llama-4",
            ),
            *(
                "ollama/llama3",
                "ollama/gpt-oss:20b",
                "groq/openai/gpt-oss-120b",
                "gpt-5.5",
                "gemini-3-pro",
                "claude-opus-5-5",
            ),
        )
    }
    assert [model for model, way in ways.items() if way is None] == list(ways)[8:]
