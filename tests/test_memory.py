"""Memory that runs out: what shrinks, what is remembered and told; limits set in advance."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from broca.__main__ import main
from broca.attributions import attribute_each, attribute_neurons, precision
from broca.attributions import branching as branching_module
from broca.attributions.memory import RowBudget, room
from broca.attributions.precision import computed_in, extra_bytes
from broca.effects import ablate_each
from broca.effects.rows import Ablation
from broca.engines import LocalEngine, limit_memory, load_bounded
from broca.engines.memory import BatchLimit
from broca.engines.worker import Worker
from broca.errors import EngineError, ModelError
from broca.model import LanguageModel
from broca.prompts import ChoicePrompt, Prompt
from broca.run.bench import MeasuringBorder
from broca.run.finding_targets import FindingLetters
from broca.run.job import ModelSettings
from broca.run.keeping import Keeping, keep
from broca.store import RunFolder
from broca.studies.locators.material import AskingFirsts
from tiny import TEXTS, tiny_model

QUICK = {"method": "gauss-legendre", "n_steps": 4, "progress": False}
SHORT = "CUDA out of memory"


# ---- what shrinks is remembered for the run, and told once


@dataclass(frozen=True)
class Budgeted:
    """Rows that follow from the memory there is: too many above `most`."""

    most: int
    kind: str = "branches"

    def __call__(self, rows: int) -> list[int]:
        tried: list[int] = []

        def compute(n: int) -> list[int]:
            tried.append(n)
            if n > self.most:
                raise RuntimeError(SHORT)
            return tried

        return RowBudget(rows, self.kind).fit(compute)


def test_rows_that_were_too_many_are_not_tried_again(capsys: pytest.CaptureFixture[str]):
    engine = LocalEngine()
    found = dict(engine.map(Budgeted(20), [64, 65, 48]))
    assert found == {64: [64, 32, 16], 65: [16], 48: [12]}
    assert list(engine.map(Budgeted(20, "effects"), [64])) == [(64, [64, 32, 16])]
    assert capsys.readouterr().err.count("Memory ran out at 64 rows") == 1
    assert list(LocalEngine().map(Budgeted(20), [64])) == [(64, [64, 32, 16])]


@dataclass(frozen=True)
class Attributing:
    """Attributes a text, on rows of its own number."""

    model: LanguageModel

    def __call__(self, text: str) -> np.ndarray:
        return attribute_neurons(self.model, [text], target=5, **QUICK)[0].values  # type: ignore


@dataclass(frozen=True)
class Ablating:
    """The exact effects of all neurons on a text."""

    model: LanguageModel

    def __call__(self, text: str) -> np.ndarray:
        return ablate_each(self.model, [text], target=5, progress=False)[0].values


def test_attributions_go_on_with_fewer_rows(monkeypatch: pytest.MonkeyPatch, capsys):
    model = tiny_model("llama")
    whole = dict(LocalEngine().map(Attributing(model), TEXTS[:2]))
    sample, sizes = branching_module.Branches.sample, []

    def scarce(self: Any, form: str, layers: Any, factors: Any, with_gradients: bool) -> Any:
        sizes.append(len(self.base) * len(layers) * len(factors))
        if sizes[-1] > 6:
            raise torch.OutOfMemoryError(SHORT)
        return sample(self, form, layers, factors, with_gradients)

    monkeypatch.setattr(branching_module.Branches, "sample", scarce)
    engine, seen = LocalEngine(), []
    for text, values in engine.map(Attributing(model), TEXTS[:2]):
        seen.append(len(sizes))
        np.testing.assert_allclose(values, whole[text], atol=1e-6)
    assert max(sizes[: seen[0]]) > 6
    assert max(sizes[seen[0] :]) <= 6
    assert capsys.readouterr().err.count("Memory ran out") == 1


def test_exact_effects_go_on_with_fewer_rows(monkeypatch: pytest.MonkeyPatch, capsys):
    model = tiny_model("llama")
    whole = dict(LocalEngine().map(Ablating(model), TEXTS[:2]))
    replaced, sizes = Ablation.replaced_in, []

    def scarce(self: Ablation, form: str, neurons: Any) -> Any:
        sizes.append(sum(map(len, neurons.values())))
        if sizes[-1] > 20:
            raise torch.OutOfMemoryError(SHORT)
        return replaced(self, form, neurons)

    monkeypatch.setattr(Ablation, "replaced_in", scarce)
    engine, seen = LocalEngine(), []
    for text, values in engine.map(Ablating(model), TEXTS[:2]):
        seen.append(len(sizes))
        np.testing.assert_allclose(values, whole[text], atol=1e-5)
    assert max(sizes[: seen[0]]) > 20
    assert max(sizes[seen[0] :]) <= 20
    assert capsys.readouterr().err.count("Memory ran out") == 1


# ---- letters, borders, known prompts


def _letters() -> list[ChoicePrompt]:
    return [
        ChoicePrompt(
            id=str(n),
            text=f"{text}?\nA. cat\nB. dog\nAnswer:",
            answers=("A",),
            options=("cat", "dog"),
            labels=("A", "B"),
            answer=0,
        )
        for n, text in enumerate([*TEXTS, *(f"{text} city" for text in TEXTS)])
    ]


def _texts() -> list[Prompt]:
    return [Prompt(id=str(n), text=text, answers=("dog",)) for n, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    ("function", "prompts"),
    [
        (FindingLetters("auto"), _letters()),
        (MeasuringBorder(), _texts()),
        (AskingFirsts(), _texts()),
    ],
)
def test_what_is_kept_is_found_with_fewer_prompts_a_pass(
    function: Any, prompts: Sequence[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = tiny_model("llama")
    expected = function(model, prompts)
    logits, sizes = LanguageModel.logits, []

    def scarce(self: LanguageModel, batch: Any, *options: Any, **more: Any) -> torch.Tensor:
        sizes.append(len(batch.ids))
        if sizes[-1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return logits(self, batch, *options, **more)

    monkeypatch.setattr(LanguageModel, "logits", scarce)
    with RunFolder.create(tmp_path / "run", {}) as folder:
        (found,) = keep(folder, LocalEngine(), model, "some", function, [({}, prompts)])
    assert max(sizes) > 2
    assert _numbers(found) == pytest.approx(_numbers(expected), abs=1e-5)


def _numbers(value: Any) -> list[float]:
    """All numbers in plain values, in order; texts by their length."""
    if isinstance(value, dict):
        value = [value[name] for name in sorted(value)]
    if isinstance(value, list | tuple):
        return [number for one in value for number in _numbers(one)]
    return [float(len(value) if isinstance(value, str) else value)]


def test_what_cannot_be_cut_smaller_says_so():
    def short(model: Any, item: Any) -> dict[str, Any]:
        raise RuntimeError(SHORT)

    model = tiny_model("llama")
    with pytest.raises(EngineError, match="cannot be cut smaller"):
        BatchLimit().compute(Keeping(model, short), ("name", None))


# ---- limits set in advance


BOUNDED = """
import torch
from broca.engines import limit_memory
from broca.engines.memory import is_out_of_memory
lift = limit_memory(64 << 20)
try:
    torch.ones(32 << 20)
except RuntimeError as error:
    assert is_out_of_memory(error), error
else:
    raise SystemExit("128 MiB were given")
lift()
print(len(torch.ones(32 << 20)))
"""
LOADED = """
import sys
import torch
from broca.engines import load_bounded
from tiny import tiny_model
model, lift = load_bounded(lambda: tiny_model("llama"), int(sys.argv[1]))
print(sum(p.nbytes for p in model.module.parameters()))
try:
    torch.ones(20 << 20)
except RuntimeError:
    print("short")
lift()
torch.ones(20 << 20)
print("given")
"""


def _said(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(place for place in sys.path if place)
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment
    )


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's data")


@linux
def test_memory_beyond_a_limit_is_a_shortage_until_it_is_lifted():
    found = _said("-c", BOUNDED)
    assert found.stdout.strip() == str(32 << 20), found.stderr


@linux
@pytest.mark.parametrize("n_mib", [1, 6, 40])
def test_a_limit_below_the_weights_is_told_in_workers_and_here(
    n_mib: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The limit counts weights, wherever the model is loaded."""
    there = Worker(ModelSettings("atlas").load, 1, n_mib << 20).ready().error
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('studies = ["relations.intra"]\nmodel = "atlas"\n', encoding="utf-8")
    options = ["--max-memory", f"{n_mib}M", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(recipe), *options])
    here = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    for said in (str(there), here):
        assert "The model's weights take" in said
        assert f"--max-memory of {n_mib} MiB" in said
        assert "weights count" in said


@linux
def test_what_the_weights_leave_is_for_batches():
    model = tiny_model("llama")
    weights = sum(p.nbytes for p in model.module.parameters())
    found = _said("-c", LOADED, str(weights + (64 << 20)))
    assert found.stdout.split() == [str(weights), "short", "given"], found.stderr


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (RuntimeError("CUDA out of memory"), True),
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (ValueError("shapes differ"), False),
    ],
)
def test_a_model_that_does_not_fit_is_told(error: Exception, short: bool):
    """Also where the loader has made a sentence of its own of it."""

    def load() -> None:
        raise ModelError("Cannot load a causal language model") from error

    words = "Memory runs out while the model is loaded" if short else "Cannot load"
    with pytest.raises(EngineError if short else ModelError, match=words):
        load_bounded(load, None)


def test_a_system_without_such_limits_is_told(monkeypatch: pytest.MonkeyPatch):
    real = builtins.open

    def without_proc(name: Any, *options: Any, **more: Any) -> Any:
        if str(name).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", name)
        return real(name, *options, **more)

    monkeypatch.setattr(builtins, "open", without_proc)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="does not bound the memory"):
        limit_memory(1 << 30)


# ---- rows and bytes follow from the kind of GPU


def test_rows_follow_from_the_memory_of_the_gpu_while_it_suffices():
    assert room(90, free=88, share=2 / 3) == room(90, free=61, share=2 / 3) == 60
    assert room(90, free=30, share=2 / 3) == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_bytes_of_a_cast_are_those_that_it_takes(dtype: torch.dtype):
    for stored in (torch.bfloat16, torch.float32):
        module = tiny_model("llama").module.to(stored)
        tensors = [*module.parameters(), *module.buffers()]
        before = {t.data_ptr(): t.nbytes for t in tensors}
        with computed_in(module, dtype):
            narrows = stored.itemsize > dtype.itemsize  # then the originals are kept as well
            held = {t.data_ptr(): t.nbytes for t in tensors} | (before if narrows else {})
        assert extra_bytes(module, dtype) == sum(held.values()) - sum(before.values())


# ---- products in TF32


def test_products_round_only_while_attributions_are_computed(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model("llama")
    exact = attribute_neurons(model, list(TEXTS[:2]), target=5, **QUICK)
    here = attribute_neurons(model, list(TEXTS[:2]), target=5, dtype="tf32", **QUICK)
    assert isinstance(exact, type(here))
    np.testing.assert_array_equal(here.values, exact.values)  # on a processor
    assert exact.agreement is None
    assert here.agreement is not None
    assert here.agreement < 1e-5
    sample, seen = branching_module.Branches.sample, []

    def noting(self: Any, *options: Any) -> Any:
        seen.append(torch.get_float32_matmul_precision())
        return sample(self, *options)

    monkeypatch.setattr(branching_module.Branches, "sample", noting)
    monkeypatch.setattr(precision, "_on_gpu", lambda model: True)
    options = {name: value for name, value in QUICK.items() if name != "progress"}
    for _ in attribute_each(model, list(TEXTS[:2]), target=5, dtype="tf32", **options):
        assert torch.get_float32_matmul_precision() == "highest"
    assert "high" in seen
    seen.clear()
    list(attribute_each(model, list(TEXTS[:2]), target=5, **options))
    assert set(seen) == {"highest"}
