"""Check docstrings and names of the packages: parameters, errors and units are named, and a docstring is a sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.test_tidy import MODULES, findings, tree_of

Function = ast.FunctionDef | ast.AsyncFunctionDef

SELF_EXPLANATORY = re.compile(
    r"(?:.*_)?(?:ms|us|s|bytes|max|min|chars|usd|nano|count|number|port|seq|epoch|revision|index|status|code|limit|"
    r"tokens|signal|db|size)\Z"
)
"""Names of numbers that contain their unit, that the glossary defines, or that are common words."""

UNITLESS = re.compile(r"(?:.*_)?(?:timeout|delay|interval|ttl|duration|age|period|elapsed)\Z")

BAD_FIRST_WORDS = {
    "and",
    "whose",
    "who",
    "whoever",
    "whom",
    "what",
    "where",
    "how",
    "that",
    "which",
    "as",
    "but",
    "not",
    "so",
}

OBVIOUS_ERRORS = {"AssertionError", "NotImplementedError", "CancelledError", "StopIteration", "StopAsyncIteration"}


def functions(tree: ast.AST, public: bool = True) -> Iterator[Function]:
    """Yield the functions of modules and classes; with `public`, without those that begin with an underscore."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not (public and node.name.startswith("_")):
            yield from functions(node, public)
        elif isinstance(node, Function) and not (public and node.name.startswith("_")):
            yield node
        elif isinstance(node, ast.If | ast.Try):
            yield from functions(node, public)


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body, without those of the functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def docstring(function: Function) -> str:
    """Return the docstring, or "" if there is none or if it only refers to an interface or to an RFC."""
    text = ast.get_docstring(function) or ""
    return "" if text.startswith("See `") or text.startswith("See RFC") else text


def unexplained(function: Function) -> list[str]:
    """Return the parameters whose type and name don't explain them and that the docstring doesn't name."""
    text = docstring(function)
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [
        one.arg
        for one in parameters
        if text
        and one.annotation is not None
        and re.search(r"\b(?:int|float|bool|tuple|dict)\b", ast.unparse(one.annotation))
        and not SELF_EXPLANATORY.fullmatch(one.arg)
        and not re.search(rf"`[^`]*\b{one.arg}\b[^`]*`", text)
    ]


def unmentioned_errors(function: Function) -> list[str]:
    """Return the exceptions that the function itself raises and that its docstring doesn't name."""
    text = docstring(function)
    handled = {
        name.id
        for node in own_nodes(function)
        if isinstance(node, ast.ExceptHandler) and node.type is not None
        for name in ast.walk(node.type)
        if isinstance(name, ast.Name)
    }
    raised = {
        node.exc.func.id
        for node in own_nodes(function)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    }
    return sorted(name for name in raised - OBVIOUS_ERRORS - handled if text and name[0].isupper() and name not in text)


def test_a_docstring_names_the_parameters_that_need_it() -> None:
    """The docstring names each parameter that is a number without a unit, a flag, a tuple or a mapping."""
    assert (
        findings(
            MODULES, lambda path: [f"{f.name}: {bad}" for f in functions(tree_of(path)) if (bad := unexplained(f))]
        )
        == {}
    )


def test_a_docstring_names_the_errors() -> None:
    """The docstring of a public function names the exceptions that it raises."""
    assert (
        findings(
            MODULES,
            lambda path: [f"{f.name}: {bad}" for f in functions(tree_of(path)) if (bad := unmentioned_errors(f))],
        )
        == {}
    )


def test_a_duration_has_its_unit() -> None:
    """The name of a parameter or attribute that is a duration ends in `_s`, `_ms` or `_us`."""

    def look(path: str) -> list[str]:
        found = []
        for node in ast.walk(tree_of(path)):
            name = node.arg if isinstance(node, ast.arg) else None
            if isinstance(node, ast.AnnAssign):
                name = getattr(node.target, "id", None) or getattr(node.target, "attr", None)
            annotated = node if isinstance(node, ast.arg | ast.AnnAssign) and name else None
            annotation = ast.unparse(annotated.annotation) if annotated and annotated.annotation else ""
            if name and re.match(r"(?:int|float)\b", annotation) and UNITLESS.fullmatch(name):
                found.append(name)
        return found

    assert findings(MODULES, look) == {}


def test_a_docstring_is_a_sentence() -> None:
    """A docstring begins like a sentence, but not with a word such as "which", and ends like a sentence."""

    def look(path: str) -> list[str]:
        found = []
        for node in ast.walk(tree_of(path)):
            if isinstance(node, Function | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                first = text.split(maxsplit=1)[0].strip("`,.:").lower()
                if first in BAD_FIRST_WORDS or not re.match(r"[A-Z`\"\d/]", text) or text.rstrip()[-1] not in '.:`)"':
                    found.append(text.splitlines()[0][:60])
        return found

    assert findings(MODULES, look) == {}
