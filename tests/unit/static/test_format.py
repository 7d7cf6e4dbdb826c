"""The page's short texts for numbers, run in Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.programs import program

SCRIPT = Path(__file__).parents[3] / "static" / "shared" / "format.js"
FORMAT = """
const { formatDuration } = await import(process.argv[1]);
console.log(JSON.stringify(process.argv.slice(2).map((ms) => formatDuration(Number(ms)))));
"""


def test_durations_are_rounded_to_the_unit_that_is_shown() -> None:
    """No duration is shown with more digits than its unit has, such as 1000 ms or 60.0 s."""
    expected = {
        **{"0": "0 ms", "84.4": "84 ms", "999.4": "999 ms", "999.6": "1.00 s", "1240": "1.24 s", "9994": "9.99 s"},
        **{"9996": "10.0 s", "12400": "12.4 s", "59940": "59.9 s", "59960": "1 m 00 s", "125000": "2 m 05 s"},
    }
    command = [str(program("node")), "--input-type=module", "-e", FORMAT, SCRIPT.as_uri(), *expected]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert dict(zip(expected, shown, strict=True)) == expected
