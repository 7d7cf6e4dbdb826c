"""Formulas, footnotes and the languages of code, run in Node: what they are, and how long hostile text takes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.programs import program

STATIC = Path(__file__).parents[3] / "static"
IMPORTS = f"""
globalThis.self = globalThis;
const {{ Marked }} = await import("{STATIC.as_uri()}/vendor/marked.js");
const {{ mathExtensions, formulaOf }} = await import("{STATIC.as_uri()}/markdown/math_text.js");
const {{ footnoteExtensions }} = await import("{STATIC.as_uri()}/markdown/footnotes.js");
const {{ formulaTree }} = await import("{STATIC.as_uri()}/markdown/formula.js");
const {{ grammarOf }} = await import("{STATIC.as_uri()}/markdown/languages.js");
await import("{STATIC.as_uri()}/vendor/katex/katex.js");
const marked = new Marked({{ extensions: [...mathExtensions, ...footnoteExtensions] }});
const given = JSON.parse((await import("node:fs")).readFileSync(0, "utf8"));
const timed = (act) => {{ const before = process.cpuUsage().user; act(); return (process.cpuUsage().user - before) / 1e6; }};
"""
BOUND_S = 1.5
"""In CPU time. The worst cases take a fraction of it on an idle machine."""


def run(script: str, given: Any) -> Any:
    """Return what a script gives as `result`."""
    command = [
        str(program("node")),
        "--input-type=module",
        "-e",
        f"{IMPORTS}{script}\nconsole.log(JSON.stringify(result))",
    ]
    ran = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_formulas_are_found_and_prices_are_not() -> None:
    """All four kinds of delimiters are found, and an unclosed one keeps its backslash."""
    cases = {
        r"a \(x^2\) b": [r"\(x^2\)"],
        r"a \(x^2": [],
        "$x_1*y*z$ and $$z$$": ["$x_1*y*z$", "$$z$$"],
        "Text:\n\\[\na\n- b\n\\]\nmore": ["\\[\na\n- b\n\\]"],
        "$5 and $10, US$5-$10, $HOME or $x": [],
        "`$x$` and \\$5 $": [],
        "$$\na\n\nb$$": [],
        "$a b$": ["$a b$"],
        r"$a\$b$": [r"$a\$b$"],
    }
    script = """const result = given.map((text) => {
      const html = marked.parse(text);
      const found = [...html.matchAll(/<code data-math="\\w+">([^]*?)<\\/code>/g)].map(([, source]) => source);
      return [found, html.includes("\\\\(") || !text.includes("\\\\(")];
    });"""
    found = run(script, list(cases))
    assert dict(zip(cases, [formulas for formulas, _ in found], strict=True)) == cases
    assert all(kept for _, kept in found)


def test_a_formula_is_bounded() -> None:
    """Neither many characters, nor deep groups, nor macros that expand each other take long; what is too complex is null.
    A tree has no style attribute, which the page's policy would refuse."""
    cases = [
        r"\boxed{x} \colorbox{red}{y}",
        r"\frac{1}{2}" * 450,
        "{" * 2_000 + "}" * 2_000,
        r"\sqrt" * 900 + "x",
        r"\def\a{" + "x" * 460 + "}" + r"\a" * 15,
        r"\def\a{\a\a}\a",
        r"\newcommand{\b}{" + r"\frac{1}{2}" * 500 + "}",
        r"\rule{99999em}{99999em}",
        r"\left(" * 800,
        "x^" * 2_000,
        "\\" * 4_000,
        r"\href{javascript:alert(1)}{x} \htmlStyle{color: tomato}{x} \includegraphics{https://evil.example/x}",
    ]
    script = """
    const styled = (node) =>
      node.attributes?.style !== undefined || (node.children ?? []).some((child) => child && styled(child));
    const result = given.map((source) => {
      let tree;
      const seconds = timed(() => (tree = formulaTree(globalThis.katex, source, true)));
      const shown = tree?.toMarkup().replace(/<annotation.*?<\\/annotation>/, "") ?? "";
      return [Boolean(tree), seconds, Boolean(tree) && styled(tree), /href=|src=|javascript:|tomato/.test(shown)];
    });"""
    found = run(script, cases)
    rendered = [is_rendered for is_rendered, *_ in found]
    assert rendered[:2] == [True, True]
    assert rendered[2:4] == [False, False]
    assert rendered[5:7] == [False, False]
    assert all(seconds < BOUND_S for _, seconds, *_ in found), found
    assert not any(is_styled or harms for *_, is_styled, harms in found), found


def test_hostile_text_is_parsed_in_linear_time() -> None:
    """Delimiters that never close and notes without end don't make the search for them quadratic."""
    repeated = ("$", "\\(", "$$\n", "\\[\n", "[^a", "[^1]: x\n", "$x ", "\n\\[ a")
    texts = [text * 20_000 for text in repeated]
    script = """const result = given.map((text) => {
      try {
        return timed(() => marked.lexer(text.slice(0, 12_000))); // the longest block that the page parses
      } catch (error) {
        return String(error);
      }
    });"""
    assert all(isinstance(seconds, float | int) and seconds < BOUND_S for seconds in run(script, texts)), run(
        script, texts
    )


def test_at_least_thirty_languages_are_highlighted() -> None:
    """Each language has its grammar, by its usual names."""
    names = [
        "bash",
        "c",
        "C++",
        "c#",
        "py",
        "TS",
        "toml",
        "docker",
        "kt",
        "rs",
        "golang",
        "ps1",
        "html",
        "yml",
        "graphql",
    ]
    found = run("const result = given.map(grammarOf);", names)
    assert None not in found
    grammars = {path.stem for path in (STATIC / "vendor" / "highlight").glob("*.js")} - {"core"}
    assert set(found) <= grammars
    assert len(grammars) >= 30
