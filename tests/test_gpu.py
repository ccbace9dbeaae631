"""On a GPU: every family equals itself on the processor, and edits equal own hooks bit for bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from broca.attributions import attribute_neurons
from broca.edits import edited
from broca.effects import ablate_each
from broca.engines import limit_memory
from broca.engines.memory import BatchLimit, available_bytes
from broca.interventions import Deactivate, Scale, intervene
from broca.locators import locate
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import Neuron, NeuronIndex, NeuronSet, uniform_random
from broca.prompts import Prompt
from broca.responses import record_responses
from broca.run import execute, read_job
from tiny import FAMILIES, TEXTS, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here"),
]
PROMPTS = [Prompt(id=str(n), text=text, answers=(" dog",)) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module", params=list(FAMILIES))
def both(request) -> tuple[LanguageModel, LanguageModel]:
    """The same model on the processor and on a GPU."""
    there = tiny_model(request.param)
    moved = LanguageModel(there.module.cuda(), there.tokenizer, name=request.param)
    return tiny_model(request.param), moved


def test_it_is_the_same_model_elsewhere(both):
    here, there = both
    assert (here.device.type, there.device.type) == ("cpu", "cuda")
    assert here.identity == there.identity


def test_answers(both):
    found = []
    for model in both:
        off = Deactivate(uniform_random(NeuronIndex(model.identity, ("hidden",)), 30, 0))
        conditions = {"untouched": None, "off": off, "doubled": Scale(off.neurons, 2.0)}
        rows = answer_prompts(model, PROMPTS, conditions, border=" ")
        found.append({(r.condition, r.prompt): (r.ids, r.log_p) for r in rows})
    for key, (ids, log_p) in found[0].items():
        assert found[1][key][0] == ids
        assert found[1][key][1] == pytest.approx(log_p, abs=1e-4)


def test_recordings(both):
    here, there = (record_responses(model, PROMPTS, ("hidden",), batch_size=2) for model in both)
    for layer in range(here.index.identity.n_layers):
        np.testing.assert_allclose(
            here.block("hidden", layer), there.block("hidden", layer), rtol=4e-3, atol=1e-4
        )


def test_attributions(both):
    options = {"target": 9, "method": "gauss-legendre", "n_steps": 6, "progress": False}
    here, there = (attribute_neurons(model, list(TEXTS[:2]), **options) for model in both)
    largest = np.abs(here.values).max()
    np.testing.assert_allclose(here.values, there.values, atol=1e-3 * largest)


def test_exact_effects(both):
    here, there = (
        ablate_each(model, [TEXTS[1]], target=9, progress=False)[0].values for model in both
    )
    np.testing.assert_allclose(here, there, atol=1e-4)


@pytest.mark.parametrize("name", ["gradient-activation", "slimming", "exact"])
def test_locators(name):
    here, there = tiny_model("llama"), tiny_model("llama")
    there = LanguageModel(there.module.cuda(), there.tokenizer, name="llama")
    one, other = (locate(model, PROMPTS[:2], name).values for model in (here, there))
    np.testing.assert_allclose(one, other, atol=1e-2 * np.abs(one).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_neurons_off_equal_own_hooks_bit_for_bit(dtype):
    tiny = tiny_model("llama")
    model = LanguageModel(tiny.module.cuda().to(dtype), tiny.tokenizer, name="llama")
    neurons = NeuronSet.of(
        [Neuron("hidden", 1, 3), Neuron("hidden", 1, 7), Neuron("hidden", 3, 0)], model.identity
    )
    ids = torch.tensor([[5, 6, 7, 8]], device="cuda")

    def zero(columns):
        def act(module, args):
            (given,) = args
            given = given.clone()
            given[..., columns] = 0
            return (given,)

        return act

    with torch.no_grad(), intervene(model, Deactivate(neurons)):
        ours = model.module(ids).logits
    handles = [
        model.module.model.layers[layer].mlp.down_proj.register_forward_pre_hook(zero(columns))
        for layer, columns in ((1, [3, 7]), (3, [0]))
    ]
    with torch.no_grad():
        theirs = model.module(ids).logits
    for handle in handles:
        handle.remove()
    assert torch.equal(ours, theirs)
    with edited(model, Deactivate(neurons)), torch.no_grad():
        written = model.module(ids).logits
    torch.testing.assert_close(written, ours, atol=1e-2 if dtype != torch.float32 else 1e-5, rtol=0)


def test_padding_is_right_or_not_used_at_any_width():
    """Attention of torch 2.11 is wrong here at widths 33 and 65, where rows are padded."""
    wide = {"head_dim": 256, "hidden_size": 64, "attn_implementation": "sdpa"}
    here = tiny_model("llama", **wide)
    there = tiny_model("llama", **wide)
    there = LanguageModel(there.module.cuda(), there.tokenizer, name="llama")
    for width in (32, 33, 34, 64, 65, 66):
        tokens = [[5 + (3 * n + row) % 200 for n in range(width - row)] for row in range(4)]
        found = [
            torch.cat(
                [
                    m.logits(m.pad([tokens[i] for i in rows])).cpu()
                    for rows in m.batches([len(ids) for ids in tokens], len(tokens))
                ]
            )
            for m in (here, there)
        ]
        assert sorted(found[0][:, 0, 0].tolist()) == pytest.approx(
            sorted(found[1][:, 0, 0].tolist()), abs=1e-3
        )


def test_memory_that_torch_keeps_unused_counts_as_available():
    before = available_bytes(torch.device("cuda", 0))
    held = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    assert before - available_bytes(held.device) >= 1 << 30
    del held
    assert abs(available_bytes(torch.device("cuda", 0)) - before) < 1 << 28


def test_products_that_round_tell_how_far_off_they_are():
    tiny = tiny_model("llama", hidden_size=256, intermediate_size=512)
    model = LanguageModel(tiny.module.cuda(), tiny.tokenizer, name="llama")
    options = {"target": 9, "method": "gauss-legendre", "n_steps": 6, "progress": False}
    exact = attribute_neurons(model, list(TEXTS[:2]), **options)
    assert exact.agreement is None
    torch.set_float32_matmul_precision("high")
    try:
        rounded = attribute_neurons(model, list(TEXTS[:2]), **options)
    finally:
        torch.set_float32_matmul_precision("highest")
    off = np.abs(rounded.values[0] - exact.values[0]).max() / np.abs(exact.values[0]).max()
    assert rounded.agreement == pytest.approx(off, rel=1e-2)
    assert 0 < off < 0.2
    named = attribute_neurons(model, list(TEXTS[:2]), dtype="tf32", **options)
    assert named.agreement == pytest.approx(off, rel=1e-2)
    np.testing.assert_allclose(named.values, rounded.values, rtol=1e-4, atol=1e-8)
    assert torch.get_float32_matmul_precision() == "highest"


@dataclass(frozen=True)
class Asking:
    """Ask prompts with neurons off; how many rows a pass, it is told."""

    model: LanguageModel
    prompts: list[Prompt]
    batch_size: int

    def __call__(self, off: Deactivate) -> list[tuple[int, ...]]:
        rows = answer_prompts(
            self.model, self.prompts, {"off": off}, border=" ", batch_size=self.batch_size
        )
        return [row.ids for row in rows]


def test_a_shortage_of_memory_halves_the_batch():
    """Most of the GPU's memory is out of reach: fewer rows a pass, the same answers."""
    tiny = tiny_model("llama")
    model = LanguageModel(tiny.module.cuda(), tiny.tokenizer, name="llama")
    off = Deactivate(uniform_random(NeuronIndex(model.identity, ("hidden",)), 30, 0))
    many = [Prompt(id=str(n), text=TEXTS[1] * 4, answers=(" dog",)) for n in range(4096)]
    expected = Asking(model, many, 64)(off)
    torch.cuda.empty_cache()
    limit_memory(torch.cuda.memory_reserved() + (96 << 20))
    try:
        with pytest.raises(torch.OutOfMemoryError):
            Asking(model, many, 4096)(off)
        torch.cuda.empty_cache()
        limit = BatchLimit()
        assert limit.compute(Asking(model, many, 4096), off) == expected
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert limit.rows is not None
    assert limit.rows < 4096


def test_a_run_on_the_gpu_gives_the_answers_of_the_processor(tmp_path: Path):
    """The relation paper on atlas: untouched answers are the same, sets but for ties."""
    recipe = {
        "studies": ["relations.intra"],
        "model": "atlas",
        "relations": ["star_constellation", "person_occupation"],
        "n_detection": 20,
        "n_evaluation": 8,
        "n_matched": 3,
        "k": 50,
    }
    untouched, sets = {}, {}
    for place in ("cpu", "cuda"):
        run = execute(read_job({**recipe, "device_map": place}), tmp_path / place, report=False)
        rows = run.rows.read().to_pylist()
        untouched[place] = {r["prompt"]: (r["text_before"], r["log_p_before"]) for r in rows}
        sets[place] = {n: set(NeuronSet.load(run.set_path(n))) for n in recipe["relations"]}
        environment = json.loads((tmp_path / place / "environment.json").read_text("utf-8"))
        assert environment["device"].startswith(place)
        assert (environment["device_name"] == torch.cuda.get_device_name()) == (place != "cpu")
    assert untouched["cpu"].keys() == untouched["cuda"].keys()
    for prompt, (text, log_p) in untouched["cpu"].items():
        assert untouched["cuda"][prompt][0] == text
        assert untouched["cuda"][prompt][1] == pytest.approx(log_p, abs=1e-3)
    for name, neurons in sets["cpu"].items():  # rounding may decide between equals
        assert len(neurons & sets["cuda"][name]) >= 0.9 * len(neurons)
