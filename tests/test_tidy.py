"""The house rules that no other tool holds: small rooms, plain names, nothing dead, nothing of one machine.

They look at every file that git tracks or would track, so a new file is judged before it is committed.
"""

import ast
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "providers", "store")

FUNCTION_LINES_MAX = 70
CONSTRUCTOR_PARAMETERS_MAX = 8
DOCSTRING_LINES_MAX = 5

# Settings and data are long lists; these are the files that a person has to hold in the head.
CODE_SUFFIXES = {".py", ".lua", ".sql"}

ENTRY_POINTS = {"gateway.__main__"}

PURE_ROOMS = (
    "providers/http/sse.py",
    "providers/delta_buffer.py",
    "gateway/turns/state.py",
    "gateway/protocol/codec.py",
    "gateway/streams/outbox.py",
    "gateway/protocol/requests.py",
    "gateway/protocol/errors.py",
    "gateway/protocol/events.py",
)
IMPURE_MODULES = {"aiohttp", "anyio", "asyncio", "httpx2", "os", "socket", "starlette", "uvicorn"}

VAGUE_WORDS = {"manager", "helper", "util", "misc", "common"}

TOP_LEVEL = {
    *PACKAGES,
    *("tests", "static", "vendor", "docs", "bench", "examples", "deploy", ".ci", ".github"),
    *("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "Dockerfile", "Procfile", "pyproject.toml"),
    *(".gitignore", ".dockerignore"),
    *("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-upkeep.lock"),
}

# Written in pieces, so that this file passes its own tests.
UNFINISHED = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:" + "|".join(("work", "root", "home")) + r")/")
REGISTRY = re.compile(
    "|".join(
        re.escape(".".join(host))
        for host in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("yarnpkg", "com"),
            ("proxy", "golang", "org"),
            ("docker", "io"),
            ("ghcr", "io"),
            ("quay", "io"),
        )
    )
)


def tracked_files() -> list[str]:
    """Paths from the root of what git tracks, or would: neither what is ignored nor what is deleted."""
    if not (ROOT / ".git").exists():
        pytest.skip("the house rules are checked in a git checkout", allow_module_level=True)
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()})


FILES = tracked_files()
CODE = [path for path in FILES if path.split("/")[0] in PACKAGES and Path(path).suffix in CODE_SUFFIXES]
SCRIPTS = [path for path in FILES if re.fullmatch(r"static/(?!vendor/).+\.js", path)]
MODULES = [path for path in CODE if path.endswith(".py")]
ROOMS = [path for path in MODULES if not path.endswith("/__init__.py")]
PYTHON = [path for path in FILES if path.endswith(".py")]
OURS = [path for path in FILES if "/vendor/" not in path]
LOCKS = [path for path in FILES if path.endswith(".lock")]


@cache
def text_of(path: str) -> str:
    """The file's text; nothing for what isn't text, such as a picture."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse(text_of(path), filename=path)


def name_of(path: str) -> str:
    """The dotted name of the module in a file: `gateway/turns/state.py` is `gateway.turns.state`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def lines_with(pattern: re.Pattern[str], path: str) -> list[str]:
    lines = text_of(path).splitlines()
    return [f"{n}: {line.strip()}" for n, line in enumerate(lines, 1) if pattern.search(line)]


def imports_of(path: str) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it, with what it takes from there."""
    package = path.split("/")[:-1]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


@cache
def modules_named_in(path: str) -> frozenset[str]:
    """What a module imports, and what it names in a string to import later (`providers.demo.model:Demo`)."""
    constants = (node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant))
    return frozenset([*imports_of(path), *(text.partition(":")[0] for text in constants if isinstance(text, str))])


def words_of(name: str) -> set[str]:
    """The words of an identifier or a path, in lower case and without a plural's s."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {word.lower().removesuffix("s") for word in words}


def faults(paths: Iterable[str], look: Callable[[str], object]) -> dict[str, object]:
    """What `look` finds in each of these files, where it finds anything."""
    assert paths, "no files"
    return {path: found for path in paths if (found := look(path))}


def test_a_constructor_has_eight_parameters_at_most() -> None:
    """A class that needs more does more than one job."""

    def look(path: str) -> list[str]:
        return [
            node.name
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.ClassDef)
            for one in node.body
            if isinstance(one, ast.FunctionDef) and one.name == "__init__"
            if len(one.args.args) + len(one.args.kwonlyargs) - 1 > CONSTRUCTOR_PARAMETERS_MAX
        ]

    assert faults(MODULES, look) == {}


def test_no_lambda_hides_a_circle() -> None:
    """An object gets what it needs, not a `lambda: self.x` that finds it later."""

    def look(path: str) -> list[str]:
        bodies = (node.body for node in ast.walk(tree_of(path)) if isinstance(node, ast.Lambda))
        return [ast.unparse(body) for body in bodies if re.fullmatch(r"self(\.\w+)+", ast.unparse(body))]

    assert faults(MODULES, look) == {}


def test_a_function_fits_a_screen() -> None:
    """No function has more than 70 lines."""

    def long_ones(path: str) -> dict[str, int]:
        lengths = {
            node.name: (node.end_lineno or node.lineno) - node.lineno + 1
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        return {name: length for name, length in lengths.items() if length > FUNCTION_LINES_MAX}

    assert faults(MODULES, long_ones) == {}


def test_a_module_says_what_it_is_for() -> None:
    """A module opens with a docstring of one to five lines."""

    def wrong(path: str) -> bool:
        docstring = ast.get_docstring(tree_of(path))
        return not docstring or len(docstring.splitlines()) > DOCSTRING_LINES_MAX

    assert faults(MODULES, wrong) == {}


def test_nothing_is_left_unfinished() -> None:
    """No mark of unfinished work stands in a file."""
    assert faults(OURS, lambda path: lines_with(UNFINISHED, path)) == {}


def test_a_room_is_in_use() -> None:
    """Every module is an entry point, or another module imports it."""

    def unused(path: str) -> bool:
        name = name_of(path)
        others = (other for other in MODULES if other != path)
        return name not in ENTRY_POINTS and not any(name in modules_named_in(other) for other in others)

    assert faults(ROOMS, unused) == {}


def test_a_pure_room_does_no_io() -> None:
    """Protocol, codec, state and parser can be tested without a loop, a socket or a clock to wait for."""

    def impure(path: str) -> list[str]:
        waits = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.AsyncFunctionDef)]
        return [*waits, *(IMPURE_MODULES & {name.split(".")[0] for name in imports_of(path)})]

    assert faults(PURE_ROOMS, impure) == {}


def test_a_path_says_what_is_in_it() -> None:
    """No file or folder has a name that fits everything."""
    assert faults(OURS, lambda path: VAGUE_WORDS & words_of(path)) == {}


def test_a_name_says_what_it_names() -> None:
    """No class, function or parameter has a name that fits everything."""

    def vague(path: str) -> set[str]:
        names = set()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
        return {name for name in names if VAGUE_WORDS & words_of(name)}

    assert faults(PYTHON, vague) == {}


def test_nothing_names_a_registry() -> None:
    """Where packages come from is the business of whoever installs them."""
    assert faults(FILES, lambda path: lines_with(REGISTRY, path)) == {}


def test_nothing_names_a_place_on_one_machine() -> None:
    """No absolute path of somebody's machine stands in a file."""
    assert faults(FILES, lambda path: lines_with(MACHINE_PATH, path)) == {}


def test_a_lock_carries_no_address() -> None:
    """A lock file pins versions and hashes, and no URL."""
    assert faults(LOCKS, lambda path: lines_with(re.compile("://"), path)) == {}


def test_the_top_level_holds_only_what_belongs_there() -> None:
    """A new entry at the top is a decision, made here."""
    assert {path.split("/")[0] for path in FILES} - TOP_LEVEL == set()
