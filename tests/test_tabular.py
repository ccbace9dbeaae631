"""Tables of values: pandas, CSV, JSON and Parquet of them, short reprs, names elsewhere."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import broca
from broca.answers import find_targets
from broca.attributions import attribute_neurons
from broca.cli import run_cli
from broca.facts import Fact, Relation, Relations
from broca.measurements import answer_prompts
from broca.neurons import Neuron, NeuronIndex, NeuronSet
from broca.prompts import Prompt, render_fact_prompts
from broca.responses import record_responses
from broca.scores import NeuronScores, QueryScoreConfig, QuerySets, Ranking
from broca.store import RunFolder
from broca.tabular import ExportError, html_table, table_of, write_table
from tiny import TEXTS, tiny_model

MODEL = tiny_model("llama")
INDEX = NeuronIndex(MODEL.identity, ("gate", "up"))
FACTS = tuple(Fact(f"subject {n}", "r", (f"object {n}", "o")) for n in range(300))
RELATION = Relation("r", FACTS, {"finding": ("{} is",)})
PROMPTS = [Prompt(f"p{n}", text, ("x",), objects=("x",) * 500) for n, text in enumerate(TEXTS)]
SET = NeuronSet.of([Neuron("gate", 3, 5), Neuron("up", 0, 7), Neuron("q", 1, 2)], MODEL.identity)


def scores() -> NeuronScores:
    return NeuronScores(INDEX, np.linspace(0, 1, len(INDEX)), "average precision")


def query_sets() -> QuerySets:
    some = Ranking(np.array([7, 50]), np.array([1.0, 0.5]))
    none = Ranking(np.empty(0, np.int64), np.empty(0))
    rankings = {"na-ica": {"q0": some, "q1": none}}
    return QuerySets(MODEL.identity, "hidden", QueryScoreConfig(), 0, rankings, none)


def values() -> list[Any]:
    return [
        SET,
        scores(),
        query_sets(),
        record_responses(MODEL, PROMPTS, ("gate", "up")),
        attribute_neurons(MODEL, [TEXTS[0]], target=5, method="midpoint", n_steps=2),
        attribute_neurons(MODEL, [TEXTS[0]], target=5, method="midpoint", n_steps=2)[0],
        RELATION,
        Relations([RELATION]),
        find_targets(MODEL, PROMPTS[:1], " ")[0],
        PROMPTS[0],
        MODEL,
    ]


@pytest.mark.parametrize("place", range(11))
def test_reprs_are_short(place):
    value = values()[place]
    assert len(repr(value)) <= 320
    assert "array(" not in repr(value)
    if hasattr(value, "_repr_html_"):
        page = value._repr_html_()
        assert page.startswith("<table><caption>")
        assert page.count("<tr>") <= 9
        assert len(page) < 6000


def test_columns_are_what_they_say():
    columns = SET.columns()
    assert columns["site"] == ["gate", "up", "q"]
    assert columns["hook"] == [
        "blocks.3.mlp.hook_pre",
        "blocks.0.mlp.hook_pre_linear",
        "blocks.1.attn.hook_q",
    ]
    every = scores().columns()
    assert len(every["score"]) == len(INDEX)
    row = 3 * 48 + 5  # gate, layer 3, index 5
    assert [every[name][row] for name in ("site", "layer", "index")] == ["gate", 3, 5]
    best = scores().columns(2)
    assert best["score"] == [1.0, every["score"][-2]]
    assert query_sets().columns()["index"] == [7, 2]
    assert query_sets().columns()["layer"] == [0, 1]
    assert RELATION.columns()["objects"][4] == ["object 4", "o"]


def test_names_of_other_tools():
    assert Neuron("hidden", 3, 1).hook_name() == "blocks.3.mlp.hook_post"
    assert Neuron("up", 3, 1).hook_name(gated=False) == "blocks.3.mlp.hook_pre"
    paths = {site: MODEL.module_path(site, 2) for site in MODEL.sites}
    assert paths["hidden"] == paths["down"] == "model.layers.2.mlp.down_proj"
    assert paths["gate"] == "model.layers.2.mlp.gate_proj"
    modules = dict(MODEL.module.named_modules())
    seen = []
    handle = modules[paths["up"]].register_forward_hook(lambda m, a, out: seen.append(out))
    kept = []
    with MODEL.touch("up", 2, lambda tensor: kept.append(tensor)):
        MODEL.probabilities(["a cat"])
    handle.remove()
    assert (seen[0] == kept[0]).all()


def test_pandas_csv_json_parquet(tmp_path: Path):
    pandas = pytest.importorskip("pandas")
    frame = SET.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["layer"].tolist() == [3, 0, 1]
    with SET.to_csv(tmp_path / "set.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["index"] for row in rows] == ["5", "7", "2"]
    assert rows[0]["score"] == ""  # there is none
    RELATION.to_csv(tmp_path / "facts.csv")
    with (tmp_path / "facts.csv").open(encoding="utf-8", newline="") as file:
        assert json.loads(next(csv.DictReader(file))["objects"]) == ["object 0", "o"]
    write_table(SET.to_arrow(), tmp_path / "set.json")
    assert json.loads((tmp_path / "set.json").read_text())[1]["hook"].endswith("pre_linear")
    scores().to_parquet(tmp_path / "scores.parquet")
    assert pq.read_table(tmp_path / "scores.parquet").num_rows == len(INDEX)
    asked = answer_prompts(MODEL, PROMPTS, {"untouched": None}, border=" ")
    table = broca.table_of(asked)
    assert table.column_names[:3] == ["condition", "prompt", "ids"]
    assert table.num_rows == len(PROMPTS)


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ExportError, match="End it in"):
        SET.to_csv(tmp_path / "set.xls")
    SET.to_csv(tmp_path / "set.csv")
    with pytest.raises(ExportError, match="exists already"):
        SET.to_csv(tmp_path / "set.csv")
    with pytest.raises(ExportError, match="no record"):
        table_of([1])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExportError, match=r"broca\[pandas\]"):
        SET.to_pandas()


def test_markup_is_escaped():
    assert "<b>" not in html_table("<b>", {"<b>": ["<b>"]})


def test_export_command(tmp_path: Path, capsys: pytest.CaptureFixture):
    with RunFolder.begin(tmp_path / "run", {}) as folder:
        folder.save_set(SET, "a/B")
        row = {"study": "s", "condition": "c", "prompt": "p", "ids": [1, 2], "log_p": float("nan")}
        folder.rows.append([row])
    source = str(folder.path)
    assert run_cli(["export", source, "--out", str(tmp_path / "rows.csv")]) == 0
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        (found,) = csv.DictReader(file)
    assert (found["prompt"], found["ids"]) == ("p", "[1, 2]")
    sets = ["--what", "sets", "--out"]
    assert run_cli(["export", source, *sets, str(tmp_path / "sets.json")]) == 0
    listed = json.loads((tmp_path / "sets.json").read_text())
    assert {one["set"] for one in listed} == {"a/B"}
    assert listed[0]["score"] is None
    path = query_sets().save(tmp_path / "queries.parquet")
    assert run_cli(["export", str(path), "--out", str(tmp_path / "queries.csv")]) == 0
    assert len((tmp_path / "queries.csv").read_text().splitlines()) == 3
    single = str(SET.save(tmp_path / "one.json"))
    assert run_cli(["export", single, "--out", str(tmp_path / "one.csv")]) == 0
    capsys.readouterr()
    for words, told in (
        ([source, "--out", str(tmp_path / "rows.csv")], "exists already"),
        ([str(tmp_path / "no"), "--out", str(tmp_path / "x.csv")], "no such file"),
        ([single, "--what", "rows", "--out", str(tmp_path / "x.csv")], "only a run folder"),
        ([source, "--out", str(tmp_path / "x.doc")], "CSV, JSON or Parquet"),
    ):
        assert run_cli(["export", *words]) == 2
        assert told in capsys.readouterr().err


def test_parts_render_after_objects_were_hidden():
    """The objects of a relation are compared, not shown."""
    one, other = render_fact_prompts(RELATION)[:2]
    assert one != other
    assert "object 9" not in repr(one)
