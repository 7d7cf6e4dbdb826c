"""Runs the programs of LangChain and LiteLLM, and other code, in one process. Prints what each has printed, and its traceback
if it has failed, as one line of JSON.

`python_clients.py URL_OF_THE_GATEWAY CODES`, where CODES is a JSON object. Runs in `.venv-clients`.
"""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

PROGRAMS = ("langchain_client.py", "litellm_client.py")


def run(code: str, name: str) -> dict[str, str | None]:
    """Run a program."""
    failed = None
    with redirect_stdout(StringIO()) as output:
        try:
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
        except Exception:
            failed = traceback.format_exc()
    return {"printed": output.getvalue(), "failed": failed}


codes = {name: (Path(__file__).parent / name).read_text(encoding="utf-8") for name in PROGRAMS}
found = {name: run(code, name) for name, code in {**codes, **json.loads(sys.argv[2])}.items()}
print(json.dumps(found))  # noqa: T201
