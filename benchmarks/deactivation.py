"""Untouched and twelve sets switched off on 600 prompts: broca against hooks around `generate`.

The other side asks one condition after the other, in full left-padded batches, with zeroing
hooks on the same modules and the model's own `generate` for two greedy tokens. Threads are fixed
at 1, process CPU time is measured, the two sides alternate. The answers must be identical.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import timing  # fixes the threads, so it comes first

# isort: split
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from broca.interventions import Deactivate
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from broca.prompts import Prompt

LAYERS, WIDTH, HEADS, VOCABULARY = 12, 512, 8, 8000
SITES = ("gate", "up", "down")


def random_llama() -> LanguageModel:
    """A random Llama of 12 layers x 512 with a tokenizer of whole words."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=1376,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        initializer_range=0.06,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0")
    return LanguageModel(transformers.LlamaForCausalLM(config), fast, name="random-llama")


def random_prompts(n: int, seed: int = 0) -> list[Prompt]:
    """Prompts of 6 to 14 tokens, as facts have."""
    rng = np.random.default_rng(seed)
    texts = [
        " ".join(f"w{i}" for i in rng.integers(2, VOCABULARY, rng.integers(6, 15)))
        for _ in range(n)
    ]
    return [Prompt(id=str(i), text=text, answers=("w5",)) for i, text in enumerate(texts)]


def draw_sets(model: LanguageModel, upper_half: bool) -> dict[str, NeuronSet]:
    """Twelve random sets of 0.36 % of the neurons, in all layers or in the upper half."""
    index = NeuronIndex(model.identity, SITES)
    k = round(0.0036 * len(index))
    drawn = [uniform_random(index, 4 * k, seed) for seed in range(12)]
    lowest = LAYERS // 2 if upper_half else 0
    return {f"set {i}": s.take(s.layers >= lowest).top(k) for i, s in enumerate(drawn)}


def ours(model: LanguageModel, prompts: list[Prompt], sets: dict[str, NeuronSet], size: int):
    """Answers by condition through broca."""
    conditions = {"untouched": None, **{name: Deactivate(s) for name, s in sets.items()}}
    rows = answer_prompts(model, prompts, conditions, border=" ", with_log_p=False, batch_size=size)
    return {(row.condition, row.prompt): row.ids for row in rows}


@contextmanager
def zeroing_hooks(model: LanguageModel, neurons: NeuronSet) -> Iterator[None]:
    """What a user writes: a forward hook that zeroes columns, on each module touched."""
    with ExitStack() as stack:
        for site, layer in neurons.counts():
            columns = torch.from_numpy(
                neurons.only(site=site, layer=layer).indices.astype(np.int64)
            )
            module = getattr(model.module.model.layers[layer].mlp, f"{site}_proj")

            def zero(module, args, output, columns=columns):
                output[..., columns] = 0
                return output

            stack.callback(module.register_forward_hook(zero).remove)
        yield


@torch.no_grad()
def theirs(model: LanguageModel, prompts: list[Prompt], sets: dict[str, NeuronSet], size: int):
    """Answers by condition, one condition after the other, through `generate`."""
    answers = {}
    tokens = model.encode([prompt.text for prompt in prompts])
    nothing = NeuronSet.of([], model.identity)
    for name, neurons in {"untouched": nothing, **sets}.items():
        with zeroing_hooks(model, neurons):
            for start in range(0, len(prompts), size):
                batch = model.pad(tokens[start : start + size])
                out = model.module.generate(
                    batch.ids,
                    attention_mask=batch.attention_mask,
                    max_new_tokens=2,
                    do_sample=False,
                    pad_token_id=0,
                )
                for row, prompt in enumerate(prompts[start : start + size]):
                    answers[name, prompt.id] = tuple(out[row, -2:].tolist())
    return answers


def main() -> None:
    """Print the table and, as the last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, prompts = random_llama(), random_prompts(options.prompts)
    figures: dict[str, float] = {}
    rows = []
    for label, upper_half in (("all_layers", False), ("upper_half", True)):
        sets = draw_sets(model, upper_half)
        one = ours(model, prompts, sets, options.batch_size)
        other = theirs(model, prompts, sets, options.batch_size)
        different = sum(one[key] != other[key] for key in other)
        measured = timing.alternate(
            {
                "generate": lambda sets=sets: theirs(model, prompts, sets, options.batch_size),
                "broca": lambda sets=sets: ours(model, prompts, sets, options.batch_size),
            },
            options.runs,
            warm_up=False,  # the comparison above was one
        )
        ratio = timing.ratio(measured["generate"], measured["broca"])
        rows += [
            (label, name, f"{t.median:.1f}", f"{t.spread:.0%}") for name, t in measured.items()
        ]
        figures[f"ratio_{label}"] = round(ratio["median"], 3)
        figures[f"ratio_{label}_low"] = round(ratio["low"], 3)
        figures[f"ratio_{label}_high"] = round(ratio["high"], 3)
        figures[f"answers_{label}"] = len(other)
        figures[f"different_{label}"] = different
    timing.print_table(("sets in", "side", "CPU seconds", "spread"), rows)
    timing.print_result(figures)


if __name__ == "__main__":
    main()
