"""Tests of what is compiled before the workers start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from tests.compiled import ROOT, compile_test, python_files


def test_pytest_finds_the_bytecode_of_a_test(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """It is that of the file as it is now, with the details of failed assertions."""
    file = tmp_path / "test_some.py"
    for text in ("def test(a=[1]): assert a == [1, 2]", "def test(a=[1]): assert a == [1, 3]"):
        file.write_text(text, encoding="utf-8")
        compile_test(pytestconfig, file)
        code = rewrite._read_pyc(file, rewrite.get_cache_dir(file) / f"test_some{rewrite.PYC_TAIL}")
        assert code is not None
        names: dict[str, object] = {}
        exec(code, names)
        with pytest.raises(AssertionError, match=r"Right contains one more item"):
            names["test"]()  # type: ignore[operator]


def test_all_modules_are_found() -> None:
    """Each file of an imported package of this project is among them."""
    found = {file for name in ("gateway", "tests") for file in python_files(ROOT / name)}
    imported = {
        getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("gateway.")
    }
    assert {Path(file) for file in imported if file} <= found
    assert Path(__file__) in found
