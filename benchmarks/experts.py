"""The expert path against the family's own batched experts, without any function set.

- `edit_median`: time of a pass in which neurons of every layer's experts are switched off / time of
  an untouched pass with the family's own grouped experts.
- `record_median`: the same with responses recorded over the tokens that reach each expert.

A random Qwen3-MoE, float32, one thread, process CPU time, median of alternating runs. The untouched
pass is `experts_implementation="grouped_mm"`, transformers' default batched form.
"""

from __future__ import annotations

# isort: off
from timing import alternate, print_result, ratio

# isort: on
import sys
from pathlib import Path

import torch
import transformers

from broca.interventions import Deactivate, intervene
from broca.model import LanguageModel
from broca.neurons import Neuron, NeuronSet
from broca.prompts import Prompt
from broca.responses import record_responses

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from tiny import TEXTS, tiny_tokenizer  # pyright: ignore[reportMissingImports]

N_EXPERTS, CHOSEN, WIDTH, D_MODEL, N_LAYERS = 32, 4, 256, 256, 4


def make_model() -> LanguageModel:
    """A random mixture, large enough that products of weights take the time."""
    config = transformers.Qwen3MoeConfig(
        vocab_size=320,
        hidden_size=D_MODEL,
        intermediate_size=4 * D_MODEL,
        moe_intermediate_size=WIDTH,
        num_experts=N_EXPERTS,
        num_experts_per_tok=CHOSEN,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=256,
    )
    config.head_dim = 32
    config._experts_implementation = "grouped_mm"
    torch.manual_seed(0)
    module = transformers.Qwen3MoeForCausalLM(config)
    return LanguageModel(module, tiny_tokenizer(), name="qwen3_moe")


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    model = make_model()
    tokens = [[1 + (7 * i * (row + 3)) % 300 for i in range(60)] for row in range(16)]
    batch = model.pad(tokens)
    width = model.identity.width("hidden")
    chosen = [Neuron("hidden", n, i) for n in range(N_LAYERS) for i in range(0, width, 97)]
    off = Deactivate(NeuronSet.of(chosen, model.identity))
    prompts = [Prompt(id=str(n), text=TEXTS[n % len(TEXTS)] * 6, answers=("A",)) for n in range(16)]
    batch_of_prompts = model.pad(model.encode([prompt.text for prompt in prompts]))

    def edited() -> None:
        with intervene(model, off):
            model.logits(batch)

    times = alternate(
        {
            "untouched": lambda: model.logits(batch),
            "edited": edited,
            "read": lambda: model.logits(batch_of_prompts),
            "recorded": lambda: record_responses(model, prompts, ("hidden",)),
        },
        runs=3,
    )
    edits = ratio(times["edited"], times["untouched"])
    recording = ratio(times["recorded"], times["read"])
    print_result(
        {
            **{f"edit_{name}": round(value, 3) for name, value in edits.items()},
            **{f"record_{name}": round(value, 3) for name, value in recording.items()},
            "experts": N_EXPERTS,
            "chosen": CHOSEN,
        }
    )


if __name__ == "__main__":
    main()
