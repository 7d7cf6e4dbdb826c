"""The house rules that no other tool holds: small rooms, plain names, nothing dead, nothing of one machine.

They look at every file that git tracks or would track, so a new file is judged before it is committed.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "providers", "store")

FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 70
DOCSTRING_LINES_MAX = 5

# Settings and data are long lists; these are the files that a person has to hold in the head.
CODE_SUFFIXES = {".py", ".lua", ".sql"}

ENTRY_POINTS = {"gateway.__main__"}

PURE_ROOMS = (
    "providers/sse.py",
    "providers/parts.py",
    "gateway/turns/turn.py",
    "gateway/codec.py",
    "gateway/sockets/outbox.py",
    "gateway/protocol.py",
    "gateway/errors.py",
    "gateway/events.py",
)
IMPURE_MODULES = {"aiohttp", "anyio", "asyncio", "httpx2", "os", "socket", "starlette", "uvicorn"}

VAGUE_WORDS = {"manager", "helper", "util", "misc", "common"}

TOP_LEVEL = {
    *PACKAGES,
    *("tests", "static", "docs", "bench", "examples", "deploy", ".ci", ".github"),
    *("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "Dockerfile", "Procfile", "pyproject.toml"),
    *(".gitignore", ".dockerignore"),
    *("requirements.lock", "requirements-build.lock", "requirements-dev.lock"),
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
    """The dotted name of the module in a file: `gateway/turns/turn.py` is `gateway.turns.turn`."""
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
    """What a module imports, and what it names in a string to import later (`providers.demo:Demo`)."""
    constants = (node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant))
    return frozenset([*imports_of(path), *(text.partition(":")[0] for text in constants if isinstance(text, str))])


def words_of(name: str) -> set[str]:
    """The words of an identifier or a path, in lower case and without a plural's s."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {word.lower().removesuffix("s") for word in words}


@pytest.mark.parametrize("path", [*CODE, *SCRIPTS])
def test_a_file_is_a_room(path: str) -> None:
    """A file has under 300 lines: what is longer is two rooms."""
    assert len(text_of(path).splitlines()) < FILE_LINES_MAX


@pytest.mark.parametrize("path", MODULES)
def test_a_function_fits_a_screen(path: str) -> None:
    """No function has more than 70 lines."""
    lengths = {
        node.name: (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES_MAX} == {}


@pytest.mark.parametrize("path", MODULES)
def test_a_module_says_what_it_is_for(path: str) -> None:
    """A module opens with a docstring of one to five lines."""
    docstring = ast.get_docstring(tree_of(path))
    assert docstring, "no docstring"
    assert len(docstring.splitlines()) <= DOCSTRING_LINES_MAX


@pytest.mark.parametrize("path", [path for path in FILES if "/vendor/" not in path])
def test_nothing_is_left_unfinished(path: str) -> None:
    """No mark of unfinished work stands in a file."""
    assert lines_with(UNFINISHED, path) == []


@pytest.mark.parametrize("path", ROOMS)
def test_a_room_has_its_test(path: str) -> None:
    """Every module has its unit test file; where two packages share a name, the package is in the file's."""
    package, stem = path.split("/")[0], Path(path).stem.strip("_")
    wanted = {f"tests/unit/test_{package}_{stem}.py"}
    if [Path(other).stem for other in ROOMS].count(Path(path).stem) == 1:
        wanted.add(f"tests/unit/test_{stem}.py")
    assert wanted & set(FILES), f"none of {sorted(wanted)} exists"


@pytest.mark.parametrize("path", ROOMS)
def test_a_room_is_in_use(path: str) -> None:
    """Every module is an entry point, or another module imports it."""
    name = name_of(path)
    others = (other for other in MODULES if other != path)
    in_use = name in ENTRY_POINTS or any(name in modules_named_in(other) for other in others)
    assert in_use, "nothing imports it"


@pytest.mark.parametrize("path", [path for path in PURE_ROOMS if path in FILES])
def test_a_pure_room_does_no_io(path: str) -> None:
    """Protocol, codec, state and parser can be tested without a loop, a socket or a clock to wait for."""
    waits = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.AsyncFunctionDef)]
    assert waits == []
    assert IMPURE_MODULES & {name.split(".")[0] for name in imports_of(path)} == set()


@pytest.mark.parametrize("path", [path for path in FILES if "/vendor/" not in path])
def test_a_path_says_what_is_in_it(path: str) -> None:
    """No file or folder has a name that fits everything."""
    assert VAGUE_WORDS & words_of(path) == set()


@pytest.mark.parametrize("path", PYTHON)
def test_a_name_says_what_it_names(path: str) -> None:
    """No class, function or parameter has a name that fits everything."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    assert {name for name in names if VAGUE_WORDS & words_of(name)} == set()


@pytest.mark.parametrize("path", FILES)
def test_nothing_names_a_registry(path: str) -> None:
    """Where packages come from is the business of whoever installs them."""
    assert lines_with(REGISTRY, path) == []


@pytest.mark.parametrize("path", FILES)
def test_nothing_names_a_place_on_one_machine(path: str) -> None:
    """No absolute path of somebody's machine stands in a file."""
    assert lines_with(MACHINE_PATH, path) == []


@pytest.mark.parametrize("path", LOCKS)
def test_a_lock_carries_no_address(path: str) -> None:
    """A lock file pins versions and hashes, and no URL."""
    assert lines_with(re.compile("://"), path) == []


def test_the_top_level_holds_only_what_belongs_there() -> None:
    """A new entry at the top is a decision, made here."""
    assert {path.split("/")[0] for path in FILES} - TOP_LEVEL == set()
