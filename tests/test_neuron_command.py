"""`broca neuron --run`: sets of another model are never passed over in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from broca.cli import run_cli
from broca.errors import NeuronError, ScoreError
from broca.neurons import Neuron, NeuronSet, WeightsDifferWarning
from broca.prompts import Prompt
from broca.run.served import served_queries
from broca.scores import QuerySets, Ranking
from broca.scores.clusters import QueryScoreConfig
from broca.store import RunFolder
from broca.store.names import file_name
from tiny import tiny_model, tiny_module, tiny_tokenizer

MODEL = tiny_model("llama")
PLACE = Path("sets") / "queries.parquet"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one query that has one neuron, hidden:0:7."""
    none = Ranking(np.empty(0, np.int64), np.empty(0))
    rankings = {"na-ica": {"q0": Ranking(np.array([7]), np.array([1.0])), "q1": none}}
    sets = QuerySets(MODEL.identity, "hidden", QueryScoreConfig(), 0, rankings, none)
    prompts = [
        Prompt(f"{q}/1", "the cat is", ("fox",), fact=q, field="animals") for q in ("q0", "q1")
    ]
    with RunFolder.begin(tmp_path / "run", {}) as folder:
        sets.save(folder.path / PLACE)
        folder.add_prompts(prompts)
    return folder.path


def served(run: Path, **changes: Any) -> dict[str, dict[str, tuple[int, int]]]:
    """What is told of hidden:0:7, with another model's identity."""
    model: Any = SimpleNamespace(identity=replace(MODEL.identity, **changes))
    return served_queries(model, Neuron("hidden", 0, 7), run)


def test_sets_are_checked_against_the_model(run: Path) -> None:
    assert served(run)["queries by field"] == {"animals": (1, 2)}
    with pytest.warns(WeightsDifferWarning, match="other weights") as told:
        assert served(run, fingerprint="another")["queries by field"] == {"animals": (1, 2)}
    assert len(told) == 1  # once per file
    with pytest.raises(NeuronError, match=f"--model {MODEL.identity.id}"):
        served(run, n_layers=MODEL.identity.n_layers + 1)


def test_damaged_sets_are_named(run: Path) -> None:
    whole = (run / PLACE).read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:40] + bytes(30) + whole[70:]):
        (run / PLACE).write_bytes(content)
        with pytest.raises(ScoreError, match=r"queries\.parquet"):
            served(run)


def test_other_tables_are_passed_over(run: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), run / "sets" / "another.parquet")
    assert served(run)["queries by field"] == {"animals": (1, 2)}


def test_the_command_says_which_model_the_run_had(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_module("gpt2").save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save_pretrained(tmp_path / "gpt2")
    assert (
        run_cli(["neuron", "hidden:0:7", "--model", str(tmp_path / "gpt2"), "--run", str(run)]) == 2
    )
    out, err = capsys.readouterr()
    assert f"--model {MODEL.identity.id}" in " ".join(err.split())
    assert "None of the sets" not in out


def test_what_find_relations_wrote_is_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A folder of neuron sets, as `broca find relations --out` leaves it, and one file of it."""
    MODEL.module.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    name = {"name": "a/B"}
    wanted = Neuron("hidden", 0, 7)
    neurons = NeuronSet.of([Neuron("up", 1, 2), wanted], MODEL.identity, **name)
    path = neurons.save(tmp_path / "found" / file_name("a/B", ".json"))
    common = ["neuron", str(wanted), "--model", str(tmp_path / "model"), "--run"]
    for place in (tmp_path / "found", path):
        capsys.readouterr()
        assert run_cli([*common, str(place)]) == 0
        out = capsys.readouterr().out
        (line,) = [row.split() for row in out.splitlines() if row.strip().startswith("a/B")]
        assert line[1:4] == ["hidden", "2", "2"]
    (tmp_path / "empty").mkdir()
    assert run_cli([*common, str(tmp_path / "empty")]) == 2
