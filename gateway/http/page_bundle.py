"""Join the page's modules, so that the browser loads a few files instead of one per module.

A joined file has the modules of one entry point, each in a function of its own, in the order of their imports. The
gateway joins them when it first serves the page, so that those who edit the page need no build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

BUNDLES = ("chat/page.js", "markdown/markdown_view.js")
"""The entry points. A module belongs to the first one that needs it. The page loads the second one once it is live."""

_VENDOR = "vendor/"
"""The folder of the files that aren't ours. They are loaded as they are."""
_EXPORT_NAME = "turnwireModules"
"""The name under which a joined file exports its modules, by path."""

_COMMENT = re.compile(r"^[ \t]*(?:/\*(?:[^*]|\*(?!/))*\*/|//[^\n]*)[ \t]*\n", re.MULTILINE)
"""A comment with nothing else on its lines."""
_IMPORT = re.compile(r'^import (?:\{([^{}]*)\}|(\w+)) from "(\.{1,2}/[^"\n]+)";\n', re.MULTILINE)
_EXPORTED_LIST = re.compile(r"^export \{([^{}]*)\};\n", re.MULTILINE)
_EXPORTED = re.compile(r"^export ((?:async )?function\*?|class|const) (\w+)", re.MULTILINE)
_RELATIVE = re.compile(r"""(\b(?:import|URL)\(\s*)(["'`])(\.{1,2}/[^"'`\n]+)""")
_UNKNOWN = re.compile(
    r"^(?:import|export)\b(?! *\()[^\n]*|^await\b[^\n]*|^(?:const|let)[^\n(]*= await\b[^\n]*", re.MULTILINE
)


class BundleError(ValueError):
    """A module can't be joined, because of how it imports or exports, or because it uses `await` outside a function."""


def joined(files: Mapping[str, bytes], entries: Sequence[str] = BUNDLES) -> dict[str, bytes]:
    """Return the files that replace those with the same path. Paths are relative to the page's folder.

    An entry point becomes the joined file. Each of its other modules becomes a file that exports the joined module's
    names, so that a file that is loaded later doesn't get a second instance of the module.
    """
    sources = {path: _COMMENT.sub("", code.decode()) for path, code in files.items() if path.endswith(".js")}
    bundle = _Bundles(sources)
    result: dict[str, bytes] = {}
    for entry in entries:
        if entry in sources:
            result[entry] = bundle.join(entry).encode()
    result |= {path: bundle.stub(path, entry).encode() for path, entry in bundle.homes.items() if path != entry}
    return result


class _Bundles:
    """The joined files. `homes` has the entry point of each module that is in one of them."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources
        self.homes: dict[str, str] = {}

    def join(self, entry: str) -> str:
        """Return the joined file of an entry point."""
        if entry in self.homes:
            raise BundleError(f"{entry} is already in {self.homes[entry]}: load it with import()")
        order: list[str] = []
        self._collect(entry, order, ())
        self.homes |= dict.fromkeys(order, entry)
        names = {path: f"$m{number}" for number, path in enumerate(order)}
        others: dict[str, str] = {}
        bodies = [
            f"const {names[path]} = (() => {{\n{self._body(path, entry, names, others)}}})();\n" for path in order
        ]
        imports = [self._import(path, entry, name) for path, name in others.items()]
        table = ", ".join(f'"{path}": {name}' for path, name in names.items())
        exported = ", ".join(self._exported(entry))
        own = f"export const {{ {exported} }} = {names[entry]};\n" if exported else ""
        return f"{''.join(imports)}{''.join(bodies)}export const {_EXPORT_NAME} = {{ {table} }};\n{own}"

    def stub(self, path: str, entry: str) -> str:
        """Return the file that exports the names of a joined module."""
        exported = ", ".join(self._exported(path))
        return (
            f'import {{ {_EXPORT_NAME} }} from "{_relative(entry, path)}";\n'
            f'export const {{ {exported} }} = {_EXPORT_NAME}["{path}"];\n'
        )

    def _collect(self, path: str, order: list[str], above: tuple[str, ...]) -> None:
        """Add a module to `order`, after those that it imports, unless another joined file has it."""
        if path in above:
            raise BundleError(f"Modules import each other: {' > '.join((*above[above.index(path) :], path))}")
        if path in self.homes or path in order:
            return
        if path not in self._sources:
            raise BundleError(f"{above[-1]} imports {path}, which doesn't exist")
        for match in _IMPORT.finditer(self._sources[path]):
            imported = _resolve(path, match[3])
            if not imported.startswith(_VENDOR):
                self._collect(imported, order, (*above, path))
        order.append(path)

    def _body(self, path: str, entry: str, names: Mapping[str, str], others: dict[str, str]) -> str:
        """Return the code of a module's function. Modules outside the joined file are added to `others`."""

        def bind(match: re.Match[str]) -> str:
            imported = _resolve(path, match[3])
            name = names.get(imported) or others.setdefault(imported, f"$o{len(others)}")
            listed = f"default: {match[2]}" if match[1] is None else match[1].replace(" as ", ": ")
            return f"const {{{listed}}} = {name};\n"

        def move(match: re.Match[str]) -> str:
            return f"{match[1]}{match[2]}{_relative(_resolve(path, match[3]), entry)}"

        body = _RELATIVE.sub(move, _IMPORT.sub(bind, self._sources[path]))
        body = _EXPORTED.sub(r"\1 \2", _EXPORTED_LIST.sub("", body))
        if unknown := _UNKNOWN.search(body):
            raise BundleError(f"{path} can't be joined: {unknown[0]}")
        return f"{body}return {{ {', '.join(self._exported(path))} }};\n"

    def _exported(self, path: str) -> list[str]:
        source = self._sources[path]
        listed = [name.strip() for names in _EXPORTED_LIST.findall(source) for name in names.split(",") if name.strip()]
        return [*(name for _, name in _EXPORTED.findall(source)), *listed]

    def _import(self, path: str, entry: str, name: str) -> str:
        """Return the import of a module that isn't in the joined file of `entry`: of another one, or vendored."""
        home = self.homes.get(path)
        if home is None:
            return f'import * as {name} from "{_relative(path, entry)}";\n'
        return f'import {{ {_EXPORT_NAME} as {name}$ }} from "{_relative(home, entry)}";\nconst {name} = {name}$["{path}"];\n'


def _resolve(path: str, reference: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), reference))


def _relative(path: str, entry: str) -> str:
    reference = posixpath.relpath(path, posixpath.dirname(entry))
    return reference if reference.startswith(".") else f"./{reference}"
