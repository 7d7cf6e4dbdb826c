"""The calculator of the page's demo tools, run in Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.programs import program

SCRIPT = Path(__file__).parents[3] / "static" / "chat" / "demo_tools.js"
CALCULATE = """
const { runTools } = await import(process.argv[1]);
const calls = process.argv.slice(2).map((expression) => ({ name: "calculator", arguments: JSON.stringify({ expression }) }));
console.log(JSON.stringify(runTools(calls).map(({ output }) => output)));
"""


def calculate(*expressions: str) -> list[str]:
    """Return the outputs of the calculator."""
    command = [str(program("node")), "--input-type=module", "-e", CALCULATE, SCRIPT.as_uri(), *expressions]
    outputs: list[str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return outputs


def test_expressions_are_evaluated() -> None:
    """Operators have their usual precedence, and a number may begin or end with its decimal point."""
    assert calculate("1 + 2 * 3", "(1 + 2) * 3", "8 / 2 / 2", "-2 - -3", ".5 + 1", "2. * 1.25") == [
        "7",
        "9",
        "2",
        "1",
        "1.5",
        "2.5",
    ]


def test_invalid_expressions_are_errors() -> None:
    """The output of an invalid expression says what is wrong with it."""
    number = "The expression is missing a number."
    assert calculate("1 +", "1..5", "(1", "1 2", "alert(1)") == [
        number,
        number,
        "The expression is missing a closing parenthesis.",
        "The expression is invalid.",
        "The expression may only contain numbers, + - * / and parentheses.",
    ]
