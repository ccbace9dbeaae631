"""The dry run: it counts what the run computes, of both families, and writes nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from broca.engines import EngineSettings
from broca.errors import QuestionsError
from broca.model import LanguageModel
from broca.processes import usable_cores
from broca.questions import write_questions
from broca.run import execute, read_job
from broca.run.dry import DryRun, _n_workers, dry_run
from broca.run.job import Job
from broca.run.scale import Gpu, Size, Work, need
from broca.store import RunFolder
from planted import planted_world
from planted_files import QUICK, write_planted_facts
from query_files import planted_questions, rows, write_rows
from tiny import tiny_model

RELATIONS = {name: QUICK[name] for name in QUICK if name not in ("studies", "model")}
QUERIES: dict[str, Any] = {
    "n_prompts": 2,
    "n_unrelated": 2,
    "n_matched": 2,
    "n_free_form": 4,
    "n_resamples": 50,
    "n_permutations": 50,
}
STUDIES = ["relations.intra", "relations.inter", "queries.effect", "queries.free-form"]


def planted_model() -> LanguageModel:
    world = planted_world()
    return LanguageModel(world.module, world.tokenizer, name="planted")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Both families on the planted model."""
    place = tmp_path_factory.mktemp("planted")
    facts = write_planted_facts(place / "facts", ("father", "ceo", "river"))
    questions = write_questions(planted_questions(planted_world(), 4), place / "questions.jsonl")
    return read_job(
        {
            "studies": STUDIES,
            "relations": {**RELATIONS, "facts": str(facts)},
            "queries": {**QUERIES, "questions": str(questions)},
        }
    )


@pytest.fixture(scope="module")
def run(job: Job, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("runs") / "run"
    return execute(job, path, model=planted_model(), report=False)


@pytest.fixture(scope="module")
def dry(job: Job) -> DryRun:
    return dry_run(job, planted_model())


def test_both_families_are_counted(dry: DryRun, run: RunFolder):
    """Drawn sets hardly hold the same neurons and every query keeps some: never less."""
    assert 1 <= dry.pairs / run.summary["rows.needed"] < 1.5
    assert dry.evaluations == dry.pairs
    named = {study.study for study in dry.studies}
    assert named == {*STUDIES, "relations.preparation"}
    asked = {record["study"] for record in run.read_json("conditions.json")["conditions"]}
    assert asked == named - {"queries.free-form"}  # which attributes and edits nothing


def test_attributions_are_counted_exactly(dry: DryRun, run: RunFolder):
    stored = [
        len(found["prompts"])
        for path in (run.path / "attributions").iterdir()
        for found in run.read_json(f"attributions/{path.name}").values()
    ]
    assert dry.attributed == sum(stored) > 0
    by_study = {study.study: study.attributed for study in dry.studies}
    assert by_study["queries.free-form"] == QUERIES["n_free_form"]
    assert by_study["relations.intra"] == 0


def test_time_is_that_of_what_is_done(dry: DryRun):
    """Every kind of work was really done on a sample and takes its time."""
    assert set(dry.parts) == {
        "answering",
        "recording",
        "scoring",
        "finding letters",
        "measuring letters",
        "attributing letters",
        "attributing answers to compare with",
    }
    assert all(seconds > 0 for seconds in dry.parts.values())
    assert dry.seconds == pytest.approx(sum(dry.parts.values()))
    assert dry.memory_bytes > sum(
        p.numel() * p.element_size() for p in planted_model().module.parameters()
    )


def test_with_workers_it_is_the_arithmetic_of_the_table(job: Job, dry: DryRun):
    """Counts, memory and the division by workers are those of `broca.run.scale.need`.

    Rates are the dry run's own: nothing here says that they are right.
    """
    n_workers, n_tokens, n_nodes = 3, 24, 17
    model = planted_model()
    threads = torch.get_num_threads()
    found = dry_run(replace(job, engine=EngineSettings("ray", workers=n_workers)), model)
    assert torch.get_num_threads() == threads
    for name in ("evaluations", "recorded", "attributed", "disk_bytes", "weight_bytes"):
        assert getattr(found, name) == getattr(dry, name), name
    passing = ("answering", "measuring letters", "recording")
    answering = sum(found.parts[part] for part in passing)
    attributing = sum(s for part, s in found.parts.items() if part.startswith("attributing"))
    weights = sum(p.numel() for p in model.module.parameters())
    n_layers = model.identity.n_layers
    operations = {
        "answering": 2 * weights * n_tokens * (found.evaluations + found.recorded),
        "attributing": 3 * weights * n_nodes * (n_layers - 1) * found.attributed,
    }
    machine = Gpu(
        memory=8 * weights,  # one holds a worker
        peak=1.0,
        answering=operations["answering"] / answering,
        attributing=operations["attributing"] / attributing,
    )
    work = Work(found.evaluations, found.recorded, n_tokens, found.attributed, n_nodes)
    size = Size("planted", weights, weights, n_layers, bytes_each=4)
    table = need(size, n_workers, work, machine)
    rest = sum(found.parts.values()) - answering - attributing
    assert table.n_workers == n_workers
    assert table.seconds + rest / n_workers == pytest.approx(found.seconds)
    assert table.total_bytes == n_workers * found.weight_bytes
    assert found.total_memory_bytes == table.total_bytes + n_workers * found.held_bytes


def test_without_a_number_there_are_as_many_workers_as_cores():
    cores = usable_cores()
    for settings, n in (
        (EngineSettings(), 1),
        (EngineSettings("ray", workers=7), 7),
        (EngineSettings("ray"), cores),
        (EngineSettings("ray", threads=cores), 1),
        (EngineSettings("ray", address="auto"), 1),
    ):
        assert _n_workers(settings) == n


def test_cores_are_those_that_this_process_may_use(monkeypatch, tmp_path: Path):
    """In a batch job or a container fewer than the machine has."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    monkeypatch.setattr("broca.processes._QUOTA", tmp_path / "cpu.max")
    assert usable_cores() == _n_workers(EngineSettings("ray")) == 3
    for written, n in (("150000 100000", 2), ("max 100000", 3), ("1000 100000", 1), ("", 3)):
        (tmp_path / "cpu.max").write_text(written)
        assert usable_cores() == n


def test_memory_counts_weights_as_attribution_widens_them(tmp_path: Path, monkeypatch):
    path = write_rows(tmp_path / "questions.jsonl", rows())
    stored, held = [], []
    for dtype, precision in ((torch.bfloat16, "float32"), (torch.bfloat16, "bfloat16")):
        model = tiny_model("llama")
        model.module.to(dtype)
        model = LanguageModel(model.module, model.tokenizer, name="llama")
        values = {**QUERIES, "studies": ["queries.find"], "questions": str(path)}
        found = dry_run(read_job({**values, "attribution_dtype": precision}), model)
        stored.append(found.weight_bytes)
        held.append(found.held_bytes)
    module = tiny_model("llama").module
    n_weights = sum(p.numel() for p in module.parameters())
    assert stored == [2 * n_weights] * 2
    assert held[0] - held[1] == 2 * (n_weights + sum(b.numel() for b in module.buffers()))


def test_languages_and_fields_are_attributed_apart(tmp_path: Path, monkeypatch):
    """Ids of both are the same; portions of other queries are computed anew, as in the run."""
    monkeypatch.chdir(tmp_path)
    listed = [{**row, "language": "de" if i // 2 % 2 else "en"} for i, row in enumerate(rows())]
    path = write_rows(tmp_path / "questions.jsonl", listed)
    studies = ["queries.effect", "queries.languages", "queries.parity"]
    job = read_job({**QUERIES, "studies": studies, "questions": str(path), "u": 0.9})
    found = dry_run(job, tiny_model("llama"))
    real = execute(job, tmp_path / "run", model=tiny_model("llama"), report=False)
    stored = list((real.path / "attributions").iterdir())
    prompts = [
        figures
        for file in stored
        for query in real.read_json(f"attributions/{file.name}").values()
        for figures in query["prompts"]
    ]
    assert found.attributed == len(prompts)
    assert 1 <= found.pairs / real.summary["rows.needed"] < 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["questions.jsonl", "run"]


def test_mistakes_are_found(tmp_path: Path):
    path = write_rows(tmp_path / "questions.jsonl", rows(labels=["10", "11", "12", "13"]))
    job = read_job({**QUERIES, "studies": ["queries.effect"], "questions": str(path)})
    with pytest.raises(QuestionsError, match="begin with the same token"):
        dry_run(job, tiny_model("llama"))
