"""The command line: what works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from broca.cli.demo import helped
from broca.neurons import NeuronSet
from broca.recipes import load_recipe
from broca.run import execute, read_job
from broca.store import RunFolder
from cli.refusals import Broca, refused
from planted import planted_world


def test_help_loads_no_torch():
    code = (
        "import sys; from broca.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "run", "find", "ask", "inspect", "report", "ls"):
        assert command in done.stdout


def test_run_and_report(broca: Broca, finished: Path, tmp_path: Path):
    run = RunFolder.open(finished)
    assert run.finished
    code, out, _ = broca("report", finished)
    assert (code, "report.html" in out, run.check()) == (0, True, [])
    code, out, _ = broca("report", finished, finished, "--out", tmp_path / "two.html")
    assert code == 0
    assert "side by side" in (tmp_path / "two.html").read_text()


def test_ls(broca: Broca, finished: Path, tmp_path: Path):
    code, out, _ = broca("ls", finished.parent)
    assert code == 0
    assert "relations.intra" in out
    assert "finished" in out
    code, _, err = broca("ls", tmp_path)
    assert code == 0
    assert "no runs" in err
    refused(broca("ls", tmp_path / "nowhere"), "no such folder")


def test_find_relations(broca: Broca, place: Path, tmp_path: Path):
    found = tmp_path / "found"
    words = (
        "find",
        "relations",
        "--model",
        place / "model",
        "--facts",
        place / "facts" / "facts.jsonl",
        "--sites",
        "hidden",
        "--set",
        "n_evaluation=10",
        "--set",
        "min_detection=4",
        "--out",
        found,
    )
    refused(broca(*words, "--top", "6", "--relation", "rivr"), "Did you mean 'river'")
    code, _, err = broca(*words, "--top", "6", "--relation", "river")
    assert code == 0, err
    assert [path.name for path in found.iterdir()] == ["river.json"]
    neurons = NeuronSet.load(found / "river.json")
    assert set(neurons) == set(planted_world().planted["river"])
    refused(broca(*words), "holds something already")


def test_ask(broca: Broca, place: Path, finished: Path):
    fact = planted_world().facts_of("river")[3]
    prompt = planted_world().prompt(fact)
    first = fact.objects[0].split()[0]
    river, ceo = finished / "sets" / "river.json", finished / "sets" / "ceo.json"
    common = ("ask", prompt, "--model", place / "model", "--tokens", "1")
    code, out, err = broca(*common)  # simply asked
    assert code == 0, err
    assert f"Asked: {prompt}" in out
    (line,) = [row for row in out.splitlines() if row.lstrip().startswith("untouched")]
    assert line.split()[1] == first
    assert line.count(" · ") == 4
    code, out, err = broca(*common, "--off", river)
    assert code == 0, err
    clean, edited = [row for row in out.splitlines() if " · " in row]
    assert first in clean.split()[:2]
    assert "river.json off" in edited
    assert first not in edited.split()[:4]
    code, out, _ = broca(*common, "--scale", river, "--factor", "1")
    clean, edited = [row[row.index("'") :] for row in out.splitlines() if " · " in row]
    assert clean == edited
    assert broca(*common, "--off", river, "--off", ceo)[0] == 0


def test_ask_in_forms(broca: Broca, place: Path):
    common = ("ask", "the river of a is", "--model", place / "model", "--tokens", "1")
    code, out, err = broca(*common, "--form", "question")
    assert code == 0, err
    assert "Asked: the river of a is? Answer:" in out
    code, out, err = broca(*common, "--form", "few-shot", "--shot", "the river of b is c")
    assert code == 0, err
    assert "Asked: the river of b is c\nthe river of a is\n" in out
    assert (
        "Asked: tell: the river of a is now" in broca(*common, "--form", "tell: {wording} now")[1]
    )
    refused(broca(*common, "--form", "few-shot"), "--shot")
    refused(broca(*common, "--shot", "b is c"), "few-shot forms, and only there")
    refused(broca(*common, "--form", "qestion"), "Did you mean 'question'")
    refused(broca(*common, "--form", "chat"), "chat template")


def test_neuron_shows_what_each_answer_loses_without_it(broca: Broca, place: Path):
    read = ("--model", place / "model", "--facts", place / "facts" / "facts.jsonl", "--prompts", 6)
    code, out, err = broca("neuron", "hidden:1:3", *read, "--form", "few-shot")
    assert code == 0, err
    effects = out.partition("integrated gradients attribute")[2]
    rows = re.findall(r"^ +([+-][0-9.]+) +([+-][0-9.]+) +(-[0-9.]+) +… (.+)", effects, re.MULTILINE)
    assert len(rows) == 5
    assert all(abs(float(loss)) < 1 and float(log_p) < 0 for loss, _, log_p, _ in rows)


def test_inspect(broca: Broca, place: Path):
    code, out, _ = broca("inspect", "--model", place / "gpt2")
    assert code == 0
    assert "gpt2, 4 layers" in out
    assert "gate" not in out.replace("gate + up + down", "")
    assert "✗" not in out


@pytest.mark.parametrize("change", [{"k": "auto", "n_spot": 1}, {"k": 0.01}])
def test_a_model_that_knows_nothing(broca: Broca, place: Path, tmp_path: Path, change: dict):
    """A plain MLP has no gate; without the filter all relations are studied."""
    options = {"detection_filter": "none", "sites": "gate,up,down", "n_shuffled": 0, **change}
    settings = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    code, _, err = broca(
        "run",
        place / "recipe.toml",
        "--model",
        place / "gpt2",
        *settings,
        "--out",
        tmp_path / "run",
    )
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["effect.relations_skipped"] == 0
    assert "has no gates" in (tmp_path / "run" / "findings.json").read_text()


@pytest.mark.slow
def test_a_second_process_takes_part_and_nothing_differs(
    place: Path, finished: Path, tmp_path: Path
):
    out = tmp_path / "run"
    job = read_job(load_recipe(place / "recipe.toml"))
    with helped(place / "recipe.toml", out):
        folder = execute(job, out, report=False)
    assert folder.finished
    assert not folder.check()
    order = [("condition", "ascending"), ("prompt", "ascending")]
    here, there = (run.rows.read().sort_by(order) for run in (folder, RunFolder.open(finished)))
    assert here.equals(there)
