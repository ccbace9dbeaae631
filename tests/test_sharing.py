"""Rows are shared: every prompt is asked once under each intervention, and everyone finds it.

The plain twin asks each condition by itself, prompt by prompt, whatever has been asked before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broca.choices import ChoiceTask, measure_choices
from broca.engines import LocalEngine
from broca.errors import StudyError
from broca.interventions import Scale
from broca.measurements import answer_prompts
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from broca.prompts import ChoicePrompt, Prompt
from broca.run import bench as bench_module
from broca.run import choice_bench
from broca.run.bench import RunBench
from broca.run.choice_bench import ChoiceBench
from broca.run.keeping import Keeping
from broca.run.sharing import Sharing, change_of
from broca.store import RunFolder
from broca.studies.conditions import make_intervention
from broca.studies.study import Plan, Results
from tiny import tiny_model

MODEL = tiny_model("llama")
WORDS = ("cat", "dog", "fox", "city", "four", "five")


class Counting(LocalEngine):
    """Counts the rows computed."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.rows, self.units, self.stop = 0, 0, stop

    def map(self, function: Callable, items: Any, *options: Any, **more: Any) -> Any:
        for item, result in super().map(function, items, *options, **more):
            if not isinstance(function, Keeping):  # letters and borders are no rows
                if self.units == self.stop:
                    raise KeyboardInterrupt
                self.rows += len(result)
                self.units += 1
            yield item, result


def plain_prompts() -> list[Prompt]:
    return [Prompt(f"p{i}", f"the {word} is", (word,), fact=word) for i, word in enumerate(WORDS)]


def choice_prompts() -> list[ChoicePrompt]:
    return [
        ChoicePrompt(
            id=f"p{i}",
            text=f"the {word}?\nA. cat\nB. dog\nAnswer:",
            answers=("AB"[i % 2],),
            fact=word,
            options=("cat", "dog"),
            labels=("A", "B"),
            answer=i % 2,
        )
        for i, word in enumerate(WORDS)
    ]


def random_sets() -> dict[str, NeuronSet]:
    """Two sets of the same neurons under different names, in another order, and another set."""
    index = NeuronIndex(MODEL.identity, ("hidden",))
    one, other = (uniform_random(index, 12, seed) for seed in (1, 2))
    return {
        "one": one.take(slice(None), name="one", method="first"),
        "same": one.take(np.arange(12)[::-1], name="same", method="second"),
        "other": other.take(slice(None), name="other", method="third"),
    }


def plans(prompts: Sequence[Prompt], kind: Any) -> list[Plan]:
    """Two plans whose groups overlap; the second adds one prompt to what the first has asked."""
    groups = {"a": prompts[:3], "b": prompts[1:5], "c": prompts[2:4]}
    sets, found = random_sets(), []
    for names in (("a", "b", "c"), ("rest", "a")):
        plan = Plan(groups | {"rest": [*prompts[3:], prompts[0]]})
        plan.ask(names)
        for neurons in sets.values():
            for factor in (None,) if kind == "deactivate" else (0.0, 2.0):
                labels = {} if factor is None else {"factor": factor, "positions": "last"}
                plan.intervene(kind, neurons, names, **labels)
        found.append(plan)
    return found


def make_bench(kind: str, path: Path, engine: LocalEngine) -> RunBench:
    bench = RunBench if kind == "answers" else ChoiceBench
    return bench(MODEL, RunFolder.begin(path, {}), engine, 16)


def measure(kind: str, path: Path, engine: LocalEngine) -> tuple[RunBench, list, list[Results]]:
    """Both plans, measured at one bench."""
    bench = make_bench(kind, path, engine)
    with bench.folder:
        prompts: Sequence[Prompt] = plain_prompts()
        if isinstance(bench, ChoiceBench):
            prompts = choice_prompts()
            bench.find_letters(choice_prompts(), "auto")
        listed = plans(prompts, "deactivate" if kind == "answers" else "scale")
        results = [bench.measure(f"study.{i}", plan) for i, plan in enumerate(listed)]
    return bench, listed, results


def asked_alone(bench: RunBench, prompt: Prompt, change: Any) -> tuple[float, bool]:
    """Log P and whether the answer is right, of one prompt by itself."""
    if isinstance(bench, ChoiceBench):
        assert isinstance(prompt, ChoicePrompt)
        assert change is None or isinstance(change, Scale)
        (letters,) = bench.find_letters([prompt], "auto")
        (row,) = measure_choices(MODEL, [ChoiceTask(letters, [("alone", change)])])
        return row.log_p, row.chosen == prompt.answer
    border = bench._borders[prompt.language, prompt.form]
    (row,) = answer_prompts(MODEL, [prompt], {"alone": change}, border=border)
    return row.log_p, row.correct


@pytest.mark.parametrize("kind", ["answers", "letters"])
def test_every_prompt_is_asked_once_and_every_condition_finds_its_rows(kind, tmp_path: Path):
    engine = Counting()
    bench, listed, results = measure(kind, tmp_path / "run", engine)
    # 6 prompts; untouched and two different sets, scaled by one factor or by two
    assert engine.rows == bench.folder.rows.count() == len(bench.needed)
    assert len(bench.needed) == 6 * (1 + 2 * (1 if kind == "answers" else 2))
    for plan, result in zip(listed, results, strict=True):
        for condition in plan.conditions:
            found = result[condition]
            prompts = plan.groups[condition.prompts]
            assert found.prompt.tolist() == [prompt.id for prompt in prompts]
            change = make_intervention(condition, plan.sets.get(condition.set))
            alone = [asked_alone(bench, prompt, change) for prompt in prompts]
            assert found.log_p == pytest.approx([log_p for log_p, _ in alone], abs=1e-5)
            assert found.correct.tolist() == [right for _, right in alone]
            before = [asked_alone(bench, prompt, None)[0] for prompt in prompts]
            assert found.log_p_before == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("kind", ["answers", "letters"])
def test_what_was_asked_names_its_rows(kind, tmp_path: Path):
    """Keys and prompts of a condition pick its rows from the files, each prompt once."""
    bench, listed, results = measure(kind, tmp_path / "run", Counting())
    rows = bench.folder.rows.read().to_pylist()
    declared = iter(bench.declared)
    for plan, result in zip(listed, results, strict=True):
        for condition in plan.conditions:
            record = next(declared)
            wanted = bench.groups[record["study"]][record["prompts"]]
            picked = {
                row["prompt"]: row["log_p"]
                for row in rows
                if row["condition"] in record["keys"] and row["prompt"] in wanted
            }
            assert [picked[prompt] for prompt in wanted] == result[condition].log_p.tolist()


@pytest.mark.parametrize("kind", ["answers", "letters"])
def test_an_interrupted_run_shares_alike(kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in (bench_module, choice_bench):
        monkeypatch.setattr(module, "UNIT_ROWS", 5)
    whole = measure(kind, tmp_path / "whole", Counting())[0]
    n_units = len(list((tmp_path / "whole" / "rows").iterdir()))
    assert n_units > 4
    for stop in range(0, n_units, 2):
        path, first, second = tmp_path / f"broken-{stop}", Counting(stop), Counting()
        with pytest.raises(KeyboardInterrupt):
            measure(kind, path, first)
        again = measure(kind, path, second)[0]
        assert first.rows + second.rows == whole.folder.rows.count()
        assert again.folder.rows.read().equals(whole.folder.rows.read())


def test_only_equal_changes_are_shared():
    """Factor, positions and neurons tell interventions apart; name, method and order do not."""
    sets = random_sets()
    plan = Plan({"a": plain_prompts()})
    one, same, other = (plan.switch_off(sets[n], ["a"])[0] for n in ("one", "same", "other"))
    assert change_of(one, plan) == change_of(same, plan) != change_of(other, plan)
    double = plan.intervene("scale", sets["one"], ["a"], factor=2.0)[0]
    last = plan.intervene("scale", sets["one"], ["a"], factor=2.0, positions="last")[0]
    half = plan.intervene("scale", sets["one"], ["a"], factor=0.5)[0]
    assert len({change_of(c, plan) for c in (one, double, last, half)}) == 4
    sharing = Sharing()
    shares = sharing.claim(plan, [one, same, other], lambda condition, prompts: condition.set)
    assert [(share.condition.set, len(share.prompts)) for share in shares] == [
        ("one", 6),
        ("other", 6),
    ]
    assert sharing.keys(change_of(same, plan), plan.groups["a"]) == ["one"] * 6


def test_another_text_under_the_same_id_is_refused(tmp_path: Path):
    """Answers, labels and texts; field and role may differ from study to study."""
    first = choice_prompts()[0]
    others = [
        {"text": "something else?\nA. cat\nB. dog\nAnswer:"},
        {"answers": ("B",), "answer": 1},
        {"labels": ("B", "A")},
    ]
    for changes in others:
        sharing, twin = Sharing(), replace(first, **changes)
        for group in ([first], [twin]):
            plan = Plan({"a": group})
            asking = partial(sharing.claim, plan, plan.ask(["a"]), lambda *_: "key")
            if group == [first]:
                assert asking()
            else:
                with pytest.raises(StudyError, match=r"same id \(prompt p0\)"):
                    asking()
        bench = make_bench("letters", tmp_path / str(changes), Counting())
        assert isinstance(bench, ChoiceBench)
        with bench.folder, pytest.raises(StudyError, match="same id"):
            bench.find_letters([first, twin], "auto")
    elsewhere = Plan({"a": [first, replace(first, field="music", role="spot")]})
    assert len(Sharing().claim(elsewhere, elsewhere.ask(["a"]), lambda *_: "key")) == 1


def test_languages_of_different_borders_are_not_asked_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    borders = {"en": " ", "zh": "", "de": " "}
    monkeypatch.setattr(
        bench_module, "measure_border", lambda model, listed, **_: borders[listed[0].language]
    )
    prompts = plain_prompts()[:3]
    german, chinese = (replace(prompts[1], language=name) for name in ("de", "zh"))
    for second, refused in ((german, False), (chinese, True)):
        bench = make_bench("answers", tmp_path / second.language, Counting())
        plan = Plan({"mixed": [prompts[0], second]})
        plan.ask(["mixed"])
        with bench.folder:
            if refused:
                with pytest.raises(StudyError, match="'mixed': en, zh"):
                    bench.measure("study", plan)
            else:
                assert len(bench.measure("study", plan).where(["mixed"])) == 2
