"""The README's file tree, code and commands are true."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """What stands between the fences of one language ("" for none)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def tree() -> list[str]:
    block = next(b for b in blocks("") if "src/broca/" in b)
    paths, parent = [], ""
    for line in block.splitlines():
        entry = line.split()[0]
        if not line.startswith(" "):
            parent = entry if entry.endswith("/") else ""
            paths.append(entry)
        else:
            paths.append(parent + entry)
    return paths


def test_everything_in_the_tree_exists():
    for path in tree():
        assert (ROOT / path).exists(), path
        assert path.endswith("/") == (ROOT / path).is_dir(), path


def test_everything_in_the_package_is_in_the_tree():
    listed = {path.removeprefix("src/broca/").rstrip("/") for path in tree()}
    found = {
        path.name
        for path in (ROOT / "src/broca").iterdir()
        if not path.name.startswith((".", "__pycache__"))
    }
    assert found <= listed, found - listed


def test_set_up_commands_are_make_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in blocks("")[0].split("\n"):
        if command:
            assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE)


def test_the_example_runs(capsys):
    exec(compile(blocks("python")[0], "README.md", "exec"), {})
    counts = eval(capsys.readouterr().out)
    assert counts["untouched"] > counts["off"]
