"""Runs: shared rows, resuming, the same numbers whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from broca.engines import LocalEngine
from broca.errors import RecipeError, RunError
from broca.neurons import NeuronSet
from broca.run import bench as bench_module
from broca.run import execute, find_relation_neurons, read_job
from broca.store import RunFolder
from planted import planted_world
from planted_files import QUICK, write_planted_facts


class Stopping:
    """An engine that is interrupted after some units."""

    def __init__(self, after: int) -> None:
        self.after = after

    def map(
        self,
        function: Callable[[Any], Any],
        items: Sequence[Any],
        description: str = "",
        weights: Sequence[int] | None = None,
        **more: Any,
    ) -> Iterator[tuple[Any, Any]]:
        for pair in LocalEngine().map(function, items, description, weights):
            if self.after == 0:
                raise KeyboardInterrupt
            self.after -= 1
            yield pair


class Counting(LocalEngine):
    """Counts prompts × interventions computed."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def map(self, function: Any, items: Any, *options: Any, **more: Any) -> Any:
        for item, result in super().map(function, items, *options, **more):
            self.rows += getattr(item, "size", 0)  # recordings have no rows
            yield item, result


@pytest.fixture(scope="module")
def model():
    return planted_world().language_model()


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted_facts(tmp_path_factory.mktemp("facts"), ("father", "ceo", "river"))


@pytest.fixture(scope="module")
def whole(model, facts: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return execute(job(facts), tmp_path_factory.mktemp("runs") / "whole", model=model)


def job(facts: Path, **changes: Any):
    return read_job({**QUICK, "facts": str(facts), **changes})


def same(one: RunFolder, other: RunFolder) -> bool:
    assert one.set_names() == other.set_names()
    for name in one.set_names():
        first, second = NeuronSet.load(one.set_path(name)), NeuronSet.load(other.set_path(name))
        assert list(first) == list(second)
    return one.rows.read().equals(other.rows.read())


def test_run_folder_is_complete(whole: RunFolder):
    folder = RunFolder.open(whole.path)
    assert folder.finished
    assert folder.check() == []
    for name in ("summary.json", "report.html", "findings.json", "conditions.json"):
        assert (folder.path / name).is_file()
    assert set(folder.set_names()) == {"father", "ceo", "river"}
    assert (
        folder.environment["fingerprint"] == planted_world().language_model().identity.fingerprint
    )
    assert "<script src" not in (folder.path / "report.html").read_text()


def test_summary_has_the_promised_figures(whole: RunFolder):
    wanted = (
        *("relations_tested", "relations_significant", "own_drop_median"),
        *("other_drop_median", "matched_drop_median", "k"),
    )
    assert {f"effect.{name}" for name in wanted} | {"seconds"} <= set(whole.summary)


def test_no_row_is_computed_twice(whole: RunFolder):
    """Three studies, shared rows: as many as distinct pairs of prompt and intervention."""
    assert whole.summary["rows.computed"] == whole.summary["rows.needed"]
    rows = whole.rows.read()
    pairs = list(zip(rows["condition"].to_pylist(), rows["prompt"].to_pylist(), strict=True))
    assert len(pairs) == len(set(pairs))


def test_same_seed_same_rows(model, facts: Path, whole: RunFolder, tmp_path: Path):
    again = execute(job(facts), tmp_path / "again", model=model, report=False)
    assert same(whole, again)
    assert {k: v for k, v in again.summary.items() if k != "seconds"} == {
        k: v for k, v in whole.summary.items() if k != "seconds"
    }


@pytest.fixture(scope="module")
def unbroken(model, facts: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same in small units, so that there are many moments to be interrupted at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_module, "UNIT_ROWS", 150)
        path = tmp_path_factory.mktemp("runs") / "unbroken"
        return execute(job(facts), path, model=model, report=False)


@pytest.mark.parametrize("after", [0, 2, 6, 12])
def test_interrupted_run_goes_on(model, facts, unbroken, tmp_path, monkeypatch, after: int):
    """It computes what was left, and ends with the rows of an unbroken run, to the last bit."""
    monkeypatch.setattr(bench_module, "UNIT_ROWS", 150)
    with pytest.raises(KeyboardInterrupt):
        execute(job(facts), tmp_path / "run", model=model, engine=Stopping(after), report=False)
    stored = RunFolder.open(tmp_path / "run").rows.count()
    counting = Counting()
    resumed = execute(job(facts), tmp_path / "run", model=model, engine=counting, report=False)
    assert same(unbroken, resumed)
    assert stored + counting.rows == resumed.rows.count()


def test_unit_size_changes_no_answer(model, facts, whole: RunFolder, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_module, "UNIT_ROWS", 40)
    small = execute(job(facts, batch_size=7), tmp_path / "small", model=model, report=False)
    one, other = whole.rows.read().to_pydict(), small.rows.read().to_pydict()
    for column in ("condition", "prompt", "text", "correct", "text_before", "said"):
        assert one[column] == other[column]
    assert one["log_p"] == pytest.approx(other["log_p"], abs=1e-5)


def test_other_settings_do_not_resume(model, facts: Path, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        execute(job(facts), tmp_path / "run", model=model, engine=Stopping(1))
    with pytest.raises(RunError, match="other settings"):
        execute(job(facts, k=7), tmp_path / "run", model=model)


def test_finished_run_is_left_alone(whole: RunFolder, facts: Path, model):
    with pytest.raises(RunError, match="finished"):
        execute(job(facts), whole.path, model=model)


def test_before_values_are_the_untouched_answers(whole: RunFolder):
    rows = whole.rows.read().to_pylist()
    before = {row["prompt"]: row for row in rows if row["intervention"] == "none"}
    for row in rows:
        for name in ("text", "correct", "log_p", "rank"):
            assert row[f"{name}_before"] == before[row["prompt"]][name]


def test_run_s_own_config_repeats_it(whole: RunFolder, model, tmp_path: Path):
    from broca.recipes import load_recipe

    values = load_recipe(whole.path / "config.toml")
    assert same(whole, execute(read_job(values), tmp_path / "again", model=model, report=False))


def test_python_in_two_lines(model):
    sets = find_relation_neurons(
        model, planted_world().relations(), k=6, sites=("hidden",), n_evaluation=8, min_detection=4
    )
    assert set(sets["river"]) == set(planted_world().planted["river"])
    assert sets["river"].settings["detection_filter"] == "correct"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"studies": []}, "no studies"),
        ({"studies": ["relations.intra", "relations.intr"]}, "no study 'relations.intr'"),
        ({"studies": ["cats.intra"]}, "no studies of 'cats'"),
        ({"n_mached": 3}, "Did you mean 'n_matched'"),
        ({"k": "many"}, "'k' cannot be"),
        ({"k": -1}, "above 0"),
        ({"n_matched": 0}, "at least 1"),
        ({"detection_filter": "all"}, "detection_filter"),
    ],
)
def test_malformed_jobs(facts: Path, change: dict[str, Any], words: str):
    with pytest.raises(RecipeError, match=words):
        job(facts, **change)
