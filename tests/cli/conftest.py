"""The command line in one process, and what a user has: a model, facts, a recipe, a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from broca.__main__ import main
from broca.store import write_toml
from cli.refusals import Broca
from planted import planted_world
from planted_files import QUICK, write_planted_facts
from tiny import tiny_module, tiny_tokenizer


@pytest.fixture
def broca(capsys: pytest.CaptureFixture[str]) -> Broca:
    """Run a command; its exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted model, its facts, a tiny GPT-2 and a recipe, as a user has them."""
    folder = tmp_path_factory.mktemp("place")
    world = planted_world()
    world.module.save_pretrained(folder / "model")
    world.tokenizer.save_pretrained(folder / "model")
    tiny_module("gpt2").save_pretrained(folder / "gpt2")
    tiny_tokenizer().save_pretrained(folder / "gpt2")
    write_planted_facts(folder / "facts", ("father", "ceo", "river"))
    recipe = {
        **QUICK,
        "studies": ["relations.intra"],
        "model": str(folder / "model"),
        "facts": str(folder / "facts" / "facts.jsonl"),
    }
    (folder / "recipe.toml").write_text(write_toml(recipe), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    """A finished run."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(place / "recipe.toml"), "--out", str(place / "run")])
    assert not ended.value.code
    return place / "run"
