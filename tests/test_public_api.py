"""The public names are written out, documented, and loaded on first use."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import broca


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_all_is_true():
    assert broca.__all__ == sorted(broca.__all__)
    assert set(broca.__all__) == set(broca._HOME_OF)
    for name in broca.__all__:
        value = getattr(broca, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{name} has no docstring"


def test_importing_broca_loads_no_torch():
    assert run("import sys, broca; print('torch' in sys.modules)") == "False"


def test_help_loads_no_torch():
    code = (
        "import sys\n"
        "from broca.__main__ import main\n"
        "sys.argv = ['broca', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert run(code).splitlines()[-1] == "False False"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        broca.nothing  # noqa: B018


def test_every_public_name_is_in_the_documentation():
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [name for name in broca.__all__ if f"`{name}`" not in page]
    assert not missing
