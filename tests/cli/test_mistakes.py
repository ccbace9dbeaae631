"""How mistakes end: exit code 2, words on standard error, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broca.errors import RunError
from broca.neurons import NeuronSet
from broca.store import RunFolder, write_toml
from cli.refusals import Broca, refused
from planted import planted_world
from planted_files import QUICK, write_planted_facts


def test_missing_recipe(broca: Broca, place: Path):
    refused(broca("run", place / "recip.toml"), "no such recipe", "recipe.toml")


def test_malformed_settings(broca: Broca, place: Path, tmp_path: Path):
    recipe = place / "recipe.toml"
    refused(broca("run", recipe, "--set", "n_mached=2"), "Did you mean 'n_matched'")
    refused(broca("run", recipe, "--set", "k"), "key=value")
    refused(broca("run", recipe, "--set", "k=100000", "--out", tmp_path / "r"), "do not exist")
    assert broca("run")[0] == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file or folder"),
        ("", "facts"),
        ('{"subject": "A", "relation": "r", "object": "B"}\n{"subject": \n', "2"),
    ],
)
def test_bad_facts(broca: Broca, place: Path, tmp_path: Path, content: str | None, words: str):
    path = tmp_path / "facts.jsonl"
    if content is not None:
        path.write_text(content)
        (tmp_path / "templates.toml").write_text('[r]\ntemplates = ["{} is"]\n')
    outcome = broca("run", place / "recipe.toml", "--facts", path, "--out", tmp_path / "run")
    refused(outcome, words, "facts.jsonl")


def test_template_without_slot(broca: Broca, place: Path, tmp_path: Path):
    templates = tmp_path / "templates.toml"
    templates.write_text('[river]\ntemplates = ["The river is"]\n')
    refused(
        broca(
            "run",
            place / "recipe.toml",
            "--set",
            f"templates={templates}",
            "--out",
            tmp_path / "run",
        ),
        "templates.toml",
    )


def test_relations_that_do_not_do(broca: Broca, place: Path, tmp_path: Path):
    run = ("run", place / "recipe.toml", "--out", tmp_path / "run")
    refused(broca(*run, "--set", "relations=river,rivr"), "Did you mean 'river'")
    one = ("run", place / "recipe.toml", "--out", tmp_path / "one", "--set", 'relations=["river"]')
    refused(broca(*one), "2 relations are needed")


def test_a_relation_the_model_does_not_know(broca: Broca, place: Path, tmp_path: Path):
    """It is left out with the reason; when too few remain, that is an error."""
    facts = place / "facts" / "facts.jsonl"
    lines = [json.loads(line) for line in facts.read_text().splitlines()]
    for line in lines:
        if line["relation"] == "river":
            line["object"] = "wrong"
    changed = write_planted_facts(tmp_path / "facts", ("father", "ceo", "river"))
    changed.write_text("\n".join(json.dumps(line) for line in lines))
    recipe = ("run", place / "recipe.toml", "--facts", changed)
    code, _, err = broca(*recipe, "--out", tmp_path / "run")
    assert code == 0, err
    skipped = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert "river was left out: 0 of" in " ".join(skipped["relations.intra"]["words"])
    assert "river" in (tmp_path / "run" / "report.html").read_text()
    refused(
        broca(*recipe, "--set", "relations=father,river", "--out", tmp_path / "none"),
        "knows too few relations",
        "river: 0 of",
    )


def test_sets_that_do_not_fit(broca: Broca, place: Path, finished: Path, tmp_path: Path):
    river = finished / "sets" / "river.json"
    refused(broca("ask", "hello", "--model", place / "gpt2", "--off", river), "another shape")
    refused(
        broca("ask", "hello", "--model", place / "model", "--off", tmp_path / "x.json"), "x.json"
    )
    broken = tmp_path / "broken.json"
    broken.write_text(river.read_text().replace('"hidden"', '"attic"', 1))
    refused(broca("ask", "hello", "--model", place / "model", "--off", broken), "site")


def test_paths_that_are_no_model(broca: Broca, place: Path, tmp_path: Path):
    refused(broca("inspect", "--model", tmp_path), "holds no model")
    refused(broca("inspect", "--model", place / "recipe.toml"), "no other file")


def test_prompt_longer_than_the_context(broca: Broca, place: Path, finished: Path):
    long = "river " * 3000
    refused(
        broca("ask", long, "--model", place / "model", "--off", finished / "sets" / "river.json"),
        "tokens",
    )


def test_run_folders_that_cannot_be_used(broca: Broca, place: Path, finished: Path, tmp_path: Path):
    recipe = place / "recipe.toml"
    before = (finished / "manifest.json").read_bytes()
    refused(broca("run", recipe, "--out", finished), "finished")
    assert (finished / "manifest.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused(broca("run", recipe, "--out", tmp_path / "mine"), "holds something else")
    (tmp_path / "file").write_text("")
    refused(broca("run", recipe, "--out", tmp_path / "file" / "run"), "file")
    refused(broca("report", tmp_path / "mine"), "no run folder")


def test_edits_that_cannot_be_made(broca: Broca, place: Path, finished: Path, tmp_path: Path):
    """Every refusal is told in words, and nothing is written."""
    copy, river = tmp_path / "copy", finished / "sets" / "river.json"
    edit = ("edit", "--model", place / "model", "--save", copy)
    facts = ("--facts", place / "facts" / "facts.jsonl")
    fact = planted_world().facts_of("river")[0]
    known = f"{fact.subject} | river | "
    refused(broca(*edit), "nothing to edit")
    refused(broca(*edit, *facts, "--fact", f"{fact.subject} | rivr | Elbe"), "rivr", "river")
    refused(broca(*edit, *facts, "--fact", "Nobody | river | Elbe"), "no fact about 'Nobody'")
    refused(broca(*edit, *facts, "--fact", known + fact.objects[0].upper()), "already right")
    refused(broca(*edit, *facts, "--fact", known), "no new fact")
    for key, value, words in (("site", "down", "no value vector"), ("index", 9999, "lies outside")):
        content = json.loads(river.read_text())
        content[key][0] = value
        (tmp_path / "set.json").write_text(json.dumps(content))
        refused(broca(*edit, "--off", tmp_path / "set.json"), words)
    refused(broca("edit", "--model", place / "gpt2", "--save", copy, "--off", river), "shape")
    assert not copy.exists()
    copy.mkdir()
    (copy / "mine.txt").write_text("mine")
    refused(broca(*edit, "--off", river), "not empty", "Nothing is ever overwritten")
    assert [path.name for path in copy.iterdir()] == ["mine.txt"]


def test_quantised_models_are_not_edited(
    broca: Broca, place: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from broca.model import LanguageModel

    load = LanguageModel.from_pretrained

    def quantised(*arguments: object, **options: object) -> LanguageModel:
        model = load(*arguments, **options)  # type: ignore[arg-type]
        model.module.config.quantization_config = {"quant_method": "bitsandbytes"}
        return model

    monkeypatch.setattr(LanguageModel, "from_pretrained", quantised)
    river, copy = finished / "sets" / "river.json", tmp_path / "copy"
    edit = ("edit", "--model", place / "model", "--save", copy)
    refused(broca(*edit, "--off", river), "quantised", "Load it without")
    fact = planted_world().facts_of("river")[0]
    words = ("--fact", f"{fact.subject} | river | Elbe", "--facts", place / "facts" / "facts.jsonl")
    refused(broca(*edit, *words), "quantised")
    assert not copy.exists()


def test_neurons_that_do_not_exist(broca: Broca, place: Path):
    for name, words in (
        ("hidden:99:0", "Layers go from 0 to 4"),
        ("hidden:0:9999", "9999"),
        ("attic:0:0", "Unknown site"),
        ("hidden:0", "is not a neuron"),
    ):
        refused(broca("neuron", name, "--model", place / "model"), words)


def test_interrupted_run_says_how_to_resume(
    broca: Broca, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from broca.run import placing
    from test_run import Stopping

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(placing, "SharedEngine", lambda folder, log: Stopping(12))
        code, _, err = broca("run", place / "recipe.toml", "--out", out)
    assert code == 130
    assert f"resume with: broca run {place / 'recipe.toml'} --out {out}" in err
    kept = RunFolder.open(out).rows.count()
    assert kept > 0
    refused(broca("report", out), "not finished")
    assert broca("run", place / "recipe.toml", "--out", out)[0] == 0


def test_nothing_is_overwritten_that_broca_did_not_write(
    broca: Broca, finished: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<p>my own page</p>")
    refused(broca("report", finished, "--out", mine), "would be lost", "--out")
    refused(broca("report", finished, "--out", tmp_path), "this is a folder")
    assert mine.read_text() == "<p>my own page</p>"
    page = tmp_path / "page.html"
    assert broca("report", finished, "--out", page)[0] == 0
    assert broca("report", finished, "--out", page)[0] == 0  # its own page may be drawn anew
    questions = tmp_path / "q.jsonl"
    questions.write_text("mine")
    (tmp_path / "q.toml").write_text('mapping = "mmlu"\n')
    refused(broca("build", "questions", tmp_path / "q.toml"), "would be lost")
    assert questions.read_text() == "mine"
    refused(broca("find", "relations", "--out", tmp_path), "holds something already")
    refused(broca("find", "relations", "--out", mine), "this is a file")
    refused(broca("edit", "--off", "set.json", "--save", tmp_path), "not empty")
    (finished / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"notes\.txt"):
        RunFolder.open(finished).remove()
    (finished / "notes.txt").unlink()


def test_relations_of_any_name_are_run_to_the_end(
    broca: Broca, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that are no file names: everything is recorded, scored, saved, shown and checked.

    The recipe names its files as seen from its own folder; the run is repeated from another one.
    """
    names = dict(zip(("father", "ceo", "river"), ("a/../b: c", "CON", "River."), strict=True))
    path = write_planted_facts(tmp_path / "facts", names)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    renamed = [{**row, "relation": names[row["relation"]]} for row in rows]
    path.write_text("\n".join(map(json.dumps, renamed)))
    templates = tmp_path / "facts" / "templates.toml"
    text = templates.read_text()
    for old, new in names.items():
        text = text.replace(f"[{old}", f"[{json.dumps(new)}")
    templates.write_text(text)
    recipe = {**QUICK, "studies": ["relations.intra"], "model": str(place / "model")}
    (tmp_path / "recipe.toml").write_text(write_toml({**recipe, "facts": "facts/facts.jsonl"}))
    monkeypatch.chdir(tmp_path)
    code, _, err = broca("run", "recipe.toml", "--out", "run")
    assert code == 0, err
    run = RunFolder.open(tmp_path / "run")
    assert set(run.set_names()) == set(names.values())
    planted = set(planted_world().planted["river"])
    assert set(NeuronSet.load(run.set_path("River."))) == planted
    assert broca("check", "run")[0] == 0
    monkeypatch.chdir(place)
    assert broca("run", tmp_path / "run" / "config.toml", "--dry-run")[0] == 0
    (run.path / "sets" / "CON.json").unlink(missing_ok=True)
    run.set_path("CON").unlink()
    assert broca("check", run.path)[0] == 1
    refused(broca("report", run.path), "damaged", "broca check")
    code, _, err = broca("run", run.path / "config.toml", "--out", run.path)
    assert code == 0, err
    assert "computed again" in err
    assert broca("check", run.path)[0] == 0
