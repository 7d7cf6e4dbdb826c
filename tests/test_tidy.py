"""Rules that no other tool checks: small functions, plain names, no dead modules, no paths of one machine.

The tests read every file that git tracks or would track, so a new file is checked before it is committed.
"""

import ast
import gc
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

# The suffixes of code, as opposed to settings and data.
CODE_SUFFIXES = {".py", ".lua", ".sql"}

ENTRY_POINTS = {"gateway.__main__"}

PURE_MODULES = (
    "providers/http/sse.py",
    "providers/delta_buffer.py",
    "gateway/turns/state.py",
    "gateway/turns/message_fold.py",
    "gateway/protocol/codec.py",
    "gateway/streams/outbox.py",
    "gateway/protocol/requests.py",
    "gateway/protocol/errors.py",
    "gateway/protocol/events.py",
)
IMPURE_MODULES = {"aiohttp", "anyio", "asyncio", "httpx2", "os", "socket", "starlette", "time", "uvicorn"}

VAGUE_WORDS = {"manager", "helper", "util", "misc", "common"}

TOP_LEVEL = {
    *PACKAGES,
    *("tests", "static", "vendor", "clients", "docs", "bench", "examples", "deploy", ".ci", ".github"),
    *("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "Dockerfile", "Procfile", "pyproject.toml"),
    *(".gitignore", ".dockerignore", ".env.example"),
    *("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-upkeep.lock"),
    *("requirements-docs.lock", "mkdocs.yml"),
}

# Composed of parts, so that this file passes its own tests.
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
    """Return the paths of the files that git tracks or would track, without ignored and deleted ones."""
    if not (ROOT / ".git").exists():
        pytest.skip("these rules are checked in a git checkout", allow_module_level=True)
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
MODULES = [path for path in CODE if path.endswith(".py")]
NAMED_MODULES = [path for path in MODULES if not path.endswith("/__init__.py")]
PYTHON = [path for path in FILES if path.endswith(".py")]
OURS = [path for path in FILES if "/vendor/" not in path]
LOCKS = [path for path in FILES if path.endswith(".lock")]


@cache
def text_of(path: str) -> str:
    """Return the file's text, or "" for a file that isn't text, such as an image."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse(text_of(path), filename=path)


@pytest.fixture(scope="module", autouse=True)
def no_garbage_collections() -> Iterator[None]:
    """Keep all syntax trees without garbage collections, which would take more time than everything else."""
    gc.disable()
    yield
    tree_of.cache_clear()
    gc.enable()


def name_of(path: str) -> str:
    """Return the dotted name of a file's module: `gateway/turns/state.py` is `gateway.turns.state`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def lines_with(pattern: re.Pattern[str], path: str) -> list[str]:
    lines = text_of(path).splitlines()
    return [f"{n}: {line.strip()}" for n, line in enumerate(lines, 1) if pattern.search(line)]


def imports_of(path: str) -> Iterator[str]:
    """Yield every dotted name that a module imports anywhere, including the names after `from … import`."""
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
    """Return the names that a module imports, or has in a string for a later import (`providers.demo.model:Demo`)."""
    constants = (node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant))
    return frozenset([*imports_of(path), *(text.partition(":")[0] for text in constants if isinstance(text, str))])


@cache
def words_of(name: str) -> frozenset[str]:
    """Return the words of an identifier or a path, in lower case and without a plural s."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return frozenset(word.lower().removesuffix("s") for word in words)


def findings(paths: Iterable[str], look: Callable[[str], object]) -> dict[str, object]:
    """Return the result of `look` for each file for which it isn't empty."""
    assert paths, "no files"
    return {path: found for path in paths if (found := look(path))}


def test_a_constructor_has_eight_parameters_at_most() -> None:
    """A class with more constructor parameters has more than one responsibility."""

    def look(path: str) -> list[str]:
        return [
            node.name
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.ClassDef)
            for one in node.body
            if isinstance(one, ast.FunctionDef) and one.name == "__init__"
            if len(one.args.args) + len(one.args.kwonlyargs) - 1 > CONSTRUCTOR_PARAMETERS_MAX
        ]

    assert findings(MODULES, look) == {}


def test_no_lambda_hides_a_circular_dependency() -> None:
    """An object is passed directly, not as a `lambda: self.x` that looks it up later."""

    def look(path: str) -> list[str]:
        bodies = (node.body for node in ast.walk(tree_of(path)) if isinstance(node, ast.Lambda))
        return [ast.unparse(body) for body in bodies if re.fullmatch(r"self(\.\w+)+", ast.unparse(body))]

    assert findings(MODULES, look) == {}


def test_a_function_fits_a_screen() -> None:
    """No function has more than 70 lines."""

    def long_ones(path: str) -> dict[str, int]:
        lengths = {
            node.name: (node.end_lineno or node.lineno) - node.lineno + 1
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        return {name: length for name, length in lengths.items() if length > FUNCTION_LINES_MAX}

    assert findings(MODULES, long_ones) == {}


def test_a_module_has_a_short_docstring() -> None:
    """A module begins with a docstring of one to five lines."""

    def wrong(path: str) -> bool:
        docstring = ast.get_docstring(tree_of(path))
        return not docstring or len(docstring.splitlines()) > DOCSTRING_LINES_MAX

    assert findings(MODULES, wrong) == {}


def test_nothing_is_left_unfinished() -> None:
    """No file has a mark of unfinished work."""
    assert findings(OURS, lambda path: lines_with(UNFINISHED, path)) == {}


def test_every_module_is_used() -> None:
    """Every module is an entry point, or another module imports it or has its name in a string."""

    def unused(path: str) -> bool:
        name = name_of(path)
        if name.startswith("store.archive.migrations."):
            return False  # Alembic loads them by their files' names
        others = (other for other in MODULES if other != path)
        return name not in ENTRY_POINTS and not any(name in modules_named_in(other) for other in others)

    assert findings(NAMED_MODULES, unused) == {}


def test_a_pure_module_does_no_io() -> None:
    """Protocol, codec, state and parser can be tested without an event loop, a socket or a clock."""

    def impure(path: str) -> list[str]:
        waits = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.AsyncFunctionDef)]
        return [*waits, *(IMPURE_MODULES & {name.split(".")[0] for name in imports_of(path)})]

    assert findings(PURE_MODULES, impure) == {}


def test_no_path_has_a_vague_name() -> None:
    """No file or folder has a name that would fit any content."""
    assert findings(OURS, lambda path: VAGUE_WORDS & words_of(path)) == {}


def test_no_identifier_has_a_vague_name() -> None:
    """No class, function or parameter has a name that would fit anything."""

    def vague(path: str) -> set[str]:
        names = set()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.arg):
                names.add(node.arg)
        return {name for name in names if VAGUE_WORDS & words_of(name)}

    assert findings(PYTHON, vague) == {}


def test_no_file_names_a_package_registry() -> None:
    """The user's environment decides where packages are installed from."""
    assert findings(FILES, lambda path: lines_with(REGISTRY, path)) == {}


def test_no_file_has_a_path_of_one_machine() -> None:
    """No file has an absolute path of a developer's machine."""
    assert findings(FILES, lambda path: lines_with(MACHINE_PATH, path)) == {}


def test_no_lock_file_has_a_url() -> None:
    """A lock file pins versions and hashes, and has no URL."""
    assert findings(LOCKS, lambda path: lines_with(re.compile("://"), path)) == {}


def test_the_top_level_has_only_known_entries() -> None:
    """A new top-level entry must be added to `TOP_LEVEL`."""
    assert {path.split("/")[0] for path in FILES} - TOP_LEVEL == set()
