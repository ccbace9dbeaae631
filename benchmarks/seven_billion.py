"""Both papers' work at the size of Llama-2-7B, with random weights, on one GPU.

- `answers`: prompts of some 24 tokens under 20 sets of 3,000 neurons of gate, up and down, and
  untouched: the relation paper asks 243,522 such (as counted on atlas).
- `recordings` and `scores`: mean responses of 835,584 neurons to 1,000 prompts, and the average
  precision of each for twelve relations.
- `attributions`: integrated gradients of all layers' neurons at the last of some 100 tokens, 17
  nodes: the query paper asks 3,000 such. In the dtypes asked for; each but float32 tells how far it
  is from float32 on one prompt.

Weights are random, so nothing is found: only time, memory and agreement mean anything. `--share`
of the work is done; minutes are those of the share, divided by it. `--size small` is for a look on
a processor.

Usage: python benchmarks/seven_billion.py [--share S] [--parts answers,recordings,attributions]
"""

from __future__ import annotations

import timing  # isort: skip  (before numpy)

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from broca.attributions import Attributions, attribute_neurons
from broca.interventions import Deactivate
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from broca.prompts import Prompt
from broca.responses import record_responses
from broca.scores.expertise import score_expertise_many

SITES = ("gate", "up", "down")
SETS, NEURONS, RECORDED = 20, 3000, 1000
ANSWERS, ATTRIBUTED, NODES = 243_522, 3000, 17  # of the papers, as counted on atlas
SIZES: dict[str, dict[str, Any]] = {
    "7b": {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "heads": 32},
    "small": {"vocab_size": 2000, "hidden_size": 128, "intermediate_size": 344, "heads": 4},
}
LAYERS = {"7b": 32, "small": 4}


def random_llama(size: str, device: str, dtype: torch.dtype) -> LanguageModel:
    """A Llama with random weights, and a tokenizer of whole words."""
    shape = dict(SIZES[size])
    config = transformers.LlamaConfig(
        num_hidden_layers=LAYERS[size],
        num_attention_heads=shape.pop("heads"),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
        dtype=dtype,
        **shape,
    )
    torch.manual_seed(0)
    with torch.device(device):
        module = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    words = {f"w{i}": i for i in range(config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0")
    return LanguageModel(module.eval(), fast, name=f"random-{size}")


def random_prompts(model: LanguageModel, n: int, n_tokens: int, seed: int) -> list[Prompt]:
    """Prompts of about so many tokens, of twelve relations in turn."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        length = rng.integers(round(0.75 * n_tokens), round(1.25 * n_tokens) + 1)
        ids = rng.integers(2, model.config.vocab_size, length)
        text = " ".join(f"w{i}" for i in ids)
        relation = f"relation {number % 12}"
        found.append(Prompt(id=str(number), text=text, answers=("w5 w6",), relation=relation))
    return found


def timed(act: Callable[[], Iterable[object]], device: str) -> tuple[float, int]:
    """Wall seconds of what is done, and how many things it gave."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    n = sum(1 for _ in act())
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, n


def answers(model: LanguageModel, share: float, batch_size: int) -> dict[str, float]:
    """How fast prompts are answered under sets of neurons."""
    index = NeuronIndex(model.identity, SITES)
    n_neurons = min(NEURONS, len(index) // 20)
    changes = {f"set {i}": Deactivate(uniform_random(index, n_neurons, i)) for i in range(SETS)}
    conditions = {"untouched": None, **changes}
    wanted = share * ANSWERS
    prompts = random_prompts(model, max(1, round(wanted / len(conditions))), 22, 0)

    def ask(asked: list[Prompt]) -> Iterable[object]:
        return answer_prompts(model, asked, conditions, border=" ", batch_size=batch_size)

    timed(lambda: ask(prompts[: 2 * batch_size]), model.device.type)
    seconds, n = timed(lambda: ask(prompts), model.device.type)
    n_tokens = float(np.mean([len(ids) for ids in model.encode([p.text for p in prompts])])) + 2
    flops = 2 * n_tokens * weights_of(model)
    return {
        "answers": n,
        "answer_seconds": seconds,
        "answers_per_second": n / seconds,
        "answer_tflops": n * flops / seconds / 1e12,
        "relation_paper_minutes": seconds / n * ANSWERS / 60,
    }


def recordings(model: LanguageModel, share: float, batch_size: int) -> dict[str, float]:
    """How fast responses are recorded and scored."""
    prompts = random_prompts(model, max(24, round(share * RECORDED)), 22, 1)
    kept = []
    seconds, _ = timed(
        lambda: [kept.append(record_responses(model, prompts, SITES, batch_size=batch_size))],
        model.device.type,
    )
    relations = [prompt.relation for prompt in prompts]
    everyone = np.ones(len(relations), bool)
    labels = {
        name: (np.array([r == name for r in relations]), everyone)
        for name in sorted(set(relations))
    }
    scoring, _ = timed(lambda: score_expertise_many(kept[0], labels), model.device.type)
    return {
        "recorded": len(prompts),
        "recording_seconds": seconds,
        "scoring_seconds": scoring,
    }


def attributions(
    model: LanguageModel, share: float, dtype: str, rows: int | None
) -> dict[str, float]:
    """How fast prompts are attributed."""
    prompts = random_prompts(model, max(2, round(share * ATTRIBUTED)), 100, 2)
    told: list[float | None] = []

    def attribute(asked: list[Prompt]) -> Iterable[object]:
        found = attribute_neurons(
            model,
            asked,
            target=5,
            method="gauss-legendre",
            n_steps=NODES,
            dtype=dtype,
            internal_batch_size=rows,
            progress=False,
        )
        assert isinstance(found, Attributions)
        told.append(found.agreement)
        return found

    timed(lambda: attribute(prompts[:2]), model.device.type)
    seconds, n = timed(lambda: attribute(prompts), model.device.type)
    # row-layers forward and backward, without gradients of weights; the base pass is beside it
    flops = 4 * weights_of(model) * NODES * (model.n_layers - 1) / 2
    figures = {
        f"attributions_{dtype}": n,
        f"attributions_per_second_{dtype}": n / seconds,
        f"attribution_tflops_{dtype}": n * flops / seconds / 1e12,
        f"query_paper_minutes_{dtype}": seconds / n * ATTRIBUTED / 60,
    }
    if told[-1] is not None:
        figures[f"off_{dtype}"] = told[-1]
    return figures


def weights_of(model: LanguageModel) -> int:
    """Weights of the decoder layers: each is multiplied once per token."""
    return sum(weight.numel() for layer in model.layers for weight in layer.parameters())


def main() -> None:
    """Print a table and, as the last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="7b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--parts", default="answers,recordings,attributions")
    parser.add_argument("--dtypes", default="float32,tf32,bfloat16", help="Of attributions.")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rows", type=int, help="Rows beside each other in attributions.")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    start = time.perf_counter()
    model = random_llama(options.size, options.device, torch.bfloat16)
    figures["loading_seconds"] = time.perf_counter() - start
    for part in options.parts.split(","):
        if part == "answers":
            figures |= answers(model, options.share, options.batch_size)
        elif part == "recordings":
            figures |= recordings(model, options.share, options.batch_size)
        else:
            for name in options.dtypes.split(","):
                figures |= attributions(model, options.share, name, options.rows)
        print({name: round(value, 4) for name, value in figures.items()}, flush=True)
    if model.device.type == "cuda":
        figures["device_gib"] = torch.cuda.max_memory_allocated() / 2**30
        print(torch.cuda.get_device_name())
    timing.print_table(("figure", "value"), [(k, f"{v:.4g}") for k, v in figures.items()])
    timing.print_result({name: round(value, 4) for name, value in figures.items()})


if __name__ == "__main__":
    main()
