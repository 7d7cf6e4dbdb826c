"""The joined modules of the page: they run as the single files would, and what isn't needed at first is not in them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from gateway.http.page_bundle import BUNDLES, BundleError, joined
from tests.programs import program

STATIC = Path(__file__).parents[3] / "static"
FILES = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in STATIC.rglob("*.js")}

MODULES = {
    "chat/page.js": """/** A comment with import("./x.js"). */
import { count, Counter as Other } from "../shared/counter.js";
import Made from "../vendor/made.js";
import { twice } from "./twice.js";

// export default nothing
export const seen = [count(), new Other().name, Made.name, twice(2)];
export async function later() {
  const { again } = await import("../late/view.js");
  const { lazy } = await import("../lazy.js");
  const name = "made";
  const { named } = await import(`../vendor/${name}.js`);
  return [again(), lazy(), named, new URL("./worker.js", import.meta.url).pathname, urlOfTwice()];
}
import { urlOfTwice } from "./twice.js";
""",
    "chat/twice.js": """import { count } from "../shared/counter.js";
export function twice(value) {
  count();
  return value * 2;
}
export const urlOfTwice = () => new URL("../shared/worker.js", import.meta.url).pathname;
""",
    "shared/counter.js": """let number = 0;
const count = () => ++number;
class Counter {
  name = "counter";
}
export { count, Counter };
""",
    "vendor/made.js": "export default { name: 'made' };\nexport const named = 'a name';\n",
    "late/view.js": """import { count } from "../shared/counter.js";
import { helper } from "./helper.js";
export const again = () => [count(), helper()];
""",
    "late/helper.js": """import Made from "../vendor/made.js";
export const helper = () => Made.name;
""",
    "lazy.js": 'import { count } from "./shared/counter.js";\nexport const lazy = () => count();\n',
}
RUN = """
const { seen, later } = await import(process.argv[1]);
console.log(JSON.stringify([seen, await later()]));
"""


def run(folder: Path, files: dict[str, bytes]) -> str:
    """Return what the entry point returns in Node."""
    for name, code in {**files, "package.json": b'{"type": "module"}'}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(code)
    command = [str(program("node")), "--input-type=module", "-e", RUN, (folder / "chat/page.js").as_uri()]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return output.replace(folder.as_uri().removeprefix("file://"), "")


def test_joined_modules_run_as_single_ones_do(tmp_path: Path) -> None:
    """Each module has one instance, also for a file that is loaded later. Addresses relative to a module are kept."""
    files = {name: code.encode() for name, code in MODULES.items()}
    replaced = joined(files, ("chat/page.js", "late/view.js"))
    assert replaced.keys() == files.keys() - {"vendor/made.js", "lazy.js"}
    assert b"A comment" not in replaced["chat/page.js"]
    single, both = run(tmp_path / "single", files), run(tmp_path / "joined", files | replaced)
    assert single == both
    assert json.loads(both) == [
        [1, "counter", "made", 4],
        [[3, "made"], 4, "a name", "/chat/worker.js", "/shared/worker.js"],
    ]


@pytest.mark.parametrize(
    "code",
    [
        "export default 1;\n",
        "export let changing = 1;\n",
        'export * from "./other.js";\n',
        'import * as all from "./other.js";\n',
        'import "./other.js";\n',
        "await later();\n",
        "const waited = await later();\n",
        'import { missing } from "./missing.js";\n',
        'import { mutual } from "./other.js";\n',
    ],
)
def test_what_cant_be_joined_is_an_error(code: str) -> None:
    """The forms that joining would change are refused, and so are modules that import each other."""
    with pytest.raises(BundleError):
        joined({"page.js": code.encode(), "other.js": b'import { a } from "./page.js";\n'}, ("page.js",))
    with pytest.raises(BundleError):
        joined({"page.js": b'import { a } from "./late.js";\n', "late.js": b""}, ("page.js", "late.js"))


def test_the_first_file_of_the_page_has_what_it_needs_to_be_live(tmp_path: Path) -> None:
    """The renderer, the vendored libraries and the panels for developers aren't in it. Both joined files can be parsed."""
    replaced = joined(FILES)
    assert replaced.keys() >= {*BUNDLES, "turnwire.js", "shared/dom.js", "chat/composer.js", "client/codecs.js"}
    page, late = (replaced[name].decode() for name in BUNDLES)
    assert "vendor/" not in page
    assert "class MarkdownView" not in page
    assert "class WireView" not in page
    assert "class MarkdownView" in late
    for number, code in enumerate((page, late)):
        (tmp_path / f"{number}.mjs").write_text(code)
        subprocess.run([str(program("node")), "--check", str(tmp_path / f"{number}.mjs")], check=True)
