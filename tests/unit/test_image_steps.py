"""The reader of the Dockerfile that `make image-steps` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image_steps import build, instructions

DOCKERFILE = (Path(__file__).parents[2] / "Dockerfile").read_text(encoding="utf-8")


def test_all_instructions_are_read() -> None:
    """A backslash at the end continues a line, comments are left out, and every instruction of the Dockerfile is read."""
    assert instructions("FROM a AS b\n# no\nRUN one \\\n    && two\n\nUSER c\n") == [
        ("FROM", "a AS b"),
        ("RUN", "one && two"),
        ("USER", "c"),
    ]
    names = [name for name, _ in instructions(DOCKERFILE)]
    assert names.count("FROM") == 2
    assert names.count("RUN") == 3
    assert names[-1] == "CMD"
    assert {"ENV", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK"} < set(names)


def test_an_unknown_instruction_is_an_error() -> None:
    """The script refuses a Dockerfile with an instruction that it can't run."""
    with pytest.raises(ValueError, match="ONBUILD isn't known"):
        build("ONBUILD RUN x")
