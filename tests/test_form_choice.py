"""The form of asking in runs: measured on facts of its own, given, refused, told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from broca.cli import run_cli
from broca.engines import LocalEngine
from broca.errors import PromptError, StudyError
from broca.facts import Fact, Relation, Relations, load_relations
from broca.prompts import Prompt
from broca.report.runs import write_report
from broca.run import execute, read_job
from broca.run.bench import RunBench
from broca.run.best_form import find_best_form
from broca.run.dry import dry_run
from broca.run.find import find_relations
from broca.store import RunFolder
from broca.studies.relations import RelationsConfig, prepare
from broca.studies.relations.forms import Tried, best_form, keep_apart
from broca.studies.relations.preparation import ask_facts
from broca.studies.study import Outcomes
from planted import planted_world
from planted_files import QUICK, write_planted_facts

NAMES = ("father", "mother", "ceo", "country")


@pytest.fixture(scope="module")
def model():
    return planted_world().language_model()


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_planted_facts(tmp_path_factory.mktemp("forms") / "facts", NAMES))


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def run(model, facts: str, told: list[str], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = {**QUICK, "studies": ["relations.intra"], "facts": facts, "form": "auto", "shots": 2}
    job = read_job({**values, "n_form": 3})
    place = tmp_path_factory.mktemp("auto") / "run"
    return execute(job, place, model=model, report=False, tell=told.append)


def test_auto_takes_the_form_that_the_model_answers_in(run: RunFolder, told: list[str]) -> None:
    records = run.read_json("findings.json")["relations.forms"]["tables"]["forms"]
    whole = {r["form"]: r for r in records if not r["relation"]}
    assert whole["question"]["accuracy"] == max(r.get("accuracy", 0) for r in whole.values()) > 0.8
    assert whole["chat"]["n"] == 0  # the tokenizer has no template
    assert "chat template" in whole["chat"]["reason"]
    for form, record in whole.items():
        parts = [r for r in records if r["form"] == form and r["relation"]]
        assert sum(r["n"] for r in parts) == record["n"]
        for count in ("right", "right_shown", "right_named"):
            assert sum(r.get(count, 0) for r in parts) == record.get(count, 0)
    assert run.summary["form.question.accuracy"] == whole["question"]["accuracy"]
    assert told[0].startswith("Facts are asked in the form question, for example: '")


def test_facts_that_choose_the_form_serve_for_nothing_else(run: RunFolder) -> None:
    by_role: dict[str, set[str]] = {}
    for plain in run.prompts().values():
        by_role.setdefault(plain["role"], set()).add(plain["fact"])
    assert by_role["form"]
    assert not by_role["form"] & (by_role["detection"] | by_role["evaluation"])
    shown = [p for p in run.prompts().values() if p["form"] == "few-shot"]
    assert shown
    for plain in shown:
        *lines, _ = plain["text"].split("\n")
        assert len(lines) == 2
        kept = {fact.split("/")[1] for fact in by_role["form"] if plain["relation"] in fact}
        assert not any(subject in line.split() for line in lines for subject in kept)


def test_the_page_and_the_dry_run_tell_the_forms(run: RunFolder, model, tmp_path: Path) -> None:
    page = write_report([run], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Facts are asked in the form question" in page
    assert "few-shot-other" in page
    found = dry_run(read_job(run.config), model=model)
    assert found.words[0].startswith("Facts are asked in the form question")
    assert f"question {run.summary['form.question.accuracy']:.0%}" in found.words[1]


def bench(model, place: Path) -> RunBench:
    return RunBench(model, RunFolder.create(place / "run", {}), LocalEngine())


def config(facts: str, **changes) -> RelationsConfig:
    settings = {k: v for k, v in QUICK.items() if k not in ("studies", "model", "sites")}
    return RelationsConfig(**{**settings, "sites": ("hidden",), "facts": facts, **changes})


def test_a_given_form_is_used_and_its_responses_are_of_the_asked_wording(
    model, facts: str, tmp_path: Path
) -> None:
    form = "Well. {wording}? Answer:"
    found = prepare(config(facts, form=form, detection_filter="none"), bench(model, tmp_path))
    assert found.config.pooling == found.responses.pooling == "asked"
    prompts = [p for listed in found.detection.values() for p in listed]
    assert all(p.text.startswith("Well. ") and p.form == form for p in prompts)
    assert next(iter(found.sets.values())).settings["form"] == form
    asked = prepare(config(facts, form="question"), bench(model, tmp_path / "question"))
    assert asked.config.pooling == asked.responses.pooling == "mean"


def partly_wrong(relation: Relation, every: int) -> Relation:
    """Every so many facts have another fact's object."""
    given = relation.facts
    facts = [
        replace(fact, objects=given[i - 1].objects) if every and i % every == 0 else fact
        for i, fact in enumerate(given)
    ]
    return replace(relation, facts=tuple(facts))


def test_the_relations_known_best_are_kept(model, facts: str, tmp_path: Path) -> None:
    wrong = {"father": 2, "mother": 0, "ceo": 2, "country": 0}
    relations = load_relations(facts)
    mixed = Relations([partly_wrong(relations[name], wrong[name]) for name in NAMES])
    found = ask_facts(
        config(facts, form="question", max_relations=2), bench(model, tmp_path), mixed
    )
    assert set(found.names) == {"mother", "country"}
    assert set(found.skipped) == {"father", "ceo"}
    for reason in found.skipped.values():
        assert "2 others are known better (max_relations)" in reason


def test_a_model_that_knows_nothing_is_told_with_examples(
    model, facts: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as caught:
        prepare(config(facts, form="few-shot-other", shots=3), bench(model, tmp_path))
    text = str(caught.value)
    assert "knows too few relations of these facts" in text
    assert "asked in the form few-shot-other" in text
    assert text.count("was followed by") == 3
    assert "(right: " in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"form": "chat"}, "chat template"),
        ({"form": "few-shot", "shots": 500}, "too few to show 500"),
        ({"form": "fewshot"}, "Did you mean 'few-shot'"),
        ({"form": "no slot here"}, "has no {wording}"),
    ],
)
def test_forms_that_cannot_be_are_refused(
    model, facts: str, tmp_path: Path, changes: dict, said: str
) -> None:
    with pytest.raises((PromptError, StudyError)) as caught:
        prepare(config(facts, **changes), bench(model, tmp_path))
    assert said in str(caught.value)


def relations(n: int) -> Relations:
    return Relations(
        Relation(
            name, tuple(Fact(f"{name}{i}", name, ("x",)) for i in range(n)), {"finding": ("{} is",)}
        )
        for name in "ab"
    )


def test_small_relations_give_what_they_can_spare() -> None:
    settings = RelationsConfig(n_form=6, min_detection=10)
    for n, given in ((40, 6), (16, 2), (13, 1)):
        sample, left, notes = keep_apart(relations(n), settings)
        assert [len(sample[name]) for name in "ab"] == [given, given]
        assert [len(left[name]) for name in "ab"] == [n - given, n - given]
        assert not {f.id for f in sample.facts} & {f.id for f in left.facts}
        assert not notes
    sample, left, notes = keep_apart(relations(11), settings)
    assert left == relations(11) or len(left.facts) == 22
    assert "used again" in notes[0]


def test_the_first_of_equal_forms_is_taken() -> None:
    from broca.studies.relations.forms import Tried

    assert best_form([Tried("question"), Tried("cloze"), Tried("few-shot")]) == "question"


def test_answers_that_the_subject_names_are_counted() -> None:
    """Copying from the subject is told beside copying from demonstrations."""
    prompts = (
        Prompt("a", "Gacrux lies in", ("Crux",), subject="Gacrux", relation="star"),
        Prompt("b", "Deneb lies in", ("Cygnus",), subject="Deneb", relation="star"),
    )
    columns = {name: np.zeros(2) for name in Outcomes.__annotations__}
    columns |= {
        "prompt": np.array(["a", "b"], object),
        "correct": np.array([True, True]),
        "text": np.array(["Crux", "Cygnus"], object),
    }
    for record in Tried("cloze", prompts, Outcomes(**columns)).records():
        assert (record["right"], record["named"], record["right_named"]) == (2, 1, 1)


def test_a_single_command_measures_the_form_on_a_few_facts(model, facts: str) -> None:
    told: list[str] = []
    relations = load_relations(facts)
    assert find_best_form(model, relations, shots=2, tell=told.append) == "question"
    (words,) = told
    counts = dict(
        part.rsplit(" ", 1) for part in words[words.index(": ") + 2 :].split(". ")[0].split(", ")
    )
    assert "chat" not in counts
    assert "Not tried: chat (this tokenizer has no chat template)." in words
    best = max(int(n) for n in counts.values())
    assert int(counts["question"]) == best > 0.8 * 24
    assert int(counts["few-shot-other"]) < best


def test_a_small_relation_does_not_take_a_form_out_of_the_choice(model, facts: str) -> None:
    """It could not spare the facts to be shown: few-shot was passed over in silence."""
    told: list[str] = []
    whole = load_relations(facts)
    first, *others = whole.values()
    small = replace(first, facts=first.facts[:3])
    few = Relations([small, *others])
    find_best_form(model, few, shots=3, tell=told.append)
    assert "few-shot " in told[0].partition("Taken")[0]
    tiny = Relations([replace(one, facts=one.facts[:2]) for one in whole.values()])
    find_best_form(model, tiny, shots=3, tell=told.append)
    assert "Not tried: few-shot (3 demonstrations are more" in told[1]


@pytest.mark.parametrize("command", ["neuron", "edit"])
def test_commands_measure_the_form(model, facts: str, tmp_path: Path, command: str, capsys) -> None:
    model.module.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    common = [
        "--model",
        str(tmp_path / "model"),
        "--facts",
        facts,
        "--form",
        "auto",
        "--shots",
        "2",
    ]
    fact, other = load_relations(facts)["father"].facts[:2]
    words = {
        "neuron": ["neuron", "hidden:0:1", "--prompts", "4"],
        "edit": [
            *["edit", "--fact", f"{fact.subject} | father | {other.objects[0]}x"],
            *["--save", str(tmp_path / "copy"), "--set", "n_steps=1", "--set", "n_nodes=2"],
        ],
    }[command]
    assert run_cli([*words, *common]) == 0
    printed = capsys.readouterr()
    assert "Taken: question." in printed.err


def test_finding_tells_what_to_doubt_and_what_is_left_out(
    model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three facts a relation: shuffled labels would be separated as well."""
    path = write_planted_facts(tmp_path / "facts", ("father", "mother", "ceo"))
    lines = path.read_text(encoding="utf-8").splitlines()
    fathers = [line for line in lines if '"father"' in line]
    path.write_text("\n".join(line for line in lines if line not in fathers[5:]), encoding="utf-8")
    values = {**QUICK, "studies": ["relations.intra"], "facts": str(path), "n_evaluation": 2}
    job = read_job({**values, "n_detection": 4, "min_detection": 4})
    monkeypatch.setattr(type(job.model), "load", lambda self: model)
    told: list[str] = []
    find_relations(job, tmp_path / "found", tell=told.append)
    assert any("There are too few facts to rank so many neurons" in words for words in told)
    (left_out,) = (words for words in told if words.startswith("Left out: "))
    assert left_out.startswith("Left out: father: 3 detection facts, at least 4")
