"""The schemas that deploy/ is checked with: those of Kubernetes and of Docker Compose, in tests/deploy_schemas.json.

`python -m tests.deploy_schemas FILE…` checks files. With FOLDER and COMPOSE, it writes the schemas again: FOLDER is
`kubernetes-json-schema/vX.Y.0-local-strict` of PyPI's kubernetes-validate, a package of 111 MB, and COMPOSE is
`schema/compose-spec.json` of the Go module compose-go. Both have the Apache License 2.0. Then set the versions below.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]

FILE = Path(__file__).with_name("deploy_schemas.json")
KUBERNETES_VERSION = "1.37.0"
COMPOSE_VERSION = "compose-go 2.16.2"
KINDS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Ingress": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
}
_REFERENCE = re.compile(r"(?:[\w./-]*_definitions\.json)?#/\$defs/([\w.-]+)")


def errors_of(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a Kubernetes object: the path of each wrong field, and why. Unknown fields are wrong."""
    kind, version = document.get("kind"), document.get("apiVersion")
    if KINDS.get(str(kind)) != version:
        return [f"{kind} {version}: no schema; add it to tests/deploy_schemas.py"]
    return _errors(str(kind), document)


def compose_errors_of(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a Compose file."""
    return _errors("compose", document)


def _errors(name: str, document: dict[str, Any]) -> list[str]:
    found = _validator(name).iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


@cache
def _validator(name: str) -> Any:
    schemas = json.loads(FILE.read_text(encoding="utf-8"))
    if name == "compose":
        return jsonschema.Draft202012Validator(schemas["compose"])
    return jsonschema.Draft202012Validator({**schemas["kubernetes"][name], "$defs": schemas["$defs"]})


def _without_descriptions(node: Any) -> Any:
    if isinstance(node, dict):
        dropped = {"$id", "description", "x-kubernetes-group-version-kind"}
        return {
            key: _without_descriptions(value)
            for key, value in node.items()
            if key not in dropped or not isinstance(value, str | list)
        }
    return [_without_descriptions(one) for one in node] if isinstance(node, list) else node


def _names(node: Any) -> Iterator[str]:
    yield from _REFERENCE.findall(json.dumps(node))


def write(folder: Path, compose: Path) -> None:
    """Write the file from a folder of schemas and a schema of Compose, with what the kinds refer to and no descriptions."""
    everything = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    objects = {}
    for kind, version in KINDS.items():
        group, _, number = version.rpartition("/")
        name = "-".join(filter(None, [kind.lower(), group.partition(".")[0], number]))
        objects[kind] = _without_descriptions(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    needed: dict[str, Any] = {}
    waiting = list(_names(objects))
    while waiting:
        if (name := waiting.pop()) not in needed:
            needed[name] = _without_descriptions(everything[name])
            waiting += _names(needed[name])
    text = json.dumps(
        {
            "versions": {"kubernetes": KUBERNETES_VERSION, "compose": COMPOSE_VERSION, "license": "Apache-2.0"},
            "kubernetes": objects,
            "$defs": dict(sorted(needed.items())),
            "compose": _without_descriptions(json.loads(compose.read_text(encoding="utf-8"))),
        },
        separators=(",", ":"),
    )
    FILE.write_text(_REFERENCE.sub(r"#/$defs/\1", text) + "\n", encoding="utf-8")


def main() -> int:
    """Check the files of the arguments, or write the schemas. Return the exit code."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    if len(paths) == 2 and paths[0].is_dir():
        write(*paths)
        return 0
    wrong = [
        f"{path}: {document.get('kind')}: {error}"
        for path in paths
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        for error in errors_of(document)
    ]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return int(bool(wrong) or not paths)


if __name__ == "__main__":
    sys.exit(main())
