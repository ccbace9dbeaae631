"""The exact effect of every hidden neuron against the plain loop and the speed of the machine.

- `ratio_LAYERSxWIDTH_TOKENS`: time of the plain loop (tests/plain_ablation.py: all neurons of a
  layer as batch rows, one whole prompt each, logits of the last position only) / ours.
  `ratio_atlas_50` is the embedded model's shape.
- `ceiling_...`: (minimal work / our time) / the rate of a 2048 x 2048 x 2048 product in the same
  run. Minimal work: the base pass, F L(L-1)/2 row-layers and F L rows of the unembedding, products
  of weights only.
- `prefilter_cpu_seconds`, `prefilter_recall`: 10 % of the neurons of SmolLM2 and a sample of the
  rest; recall of the 20 largest effects of the full ranking.

Random Llamas and, where it is there, SmolLM2-135M (`make real-models`). Float32, one prompt, one
thread, process CPU time, median of alternating runs. The loop runs on a sample of layers and
neurons (a whole prompt costs the same whichever neuron is replaced) and is scaled; both are
compared on the sample. Source: METHODS, "Locators and the truth".
"""

from __future__ import annotations

# isort: off
from timing import alternate, print_result, print_table, ratio

# isort: on
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from broca.effects import Effect, ablate_each
from broca.model import LanguageModel

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from plain_ablation import effects_of  # pyright: ignore[reportMissingImports]
from tiny import tiny_tokenizer  # pyright: ignore[reportMissingImports]

PRODUCT = 2048
PARTS = ("ratios", "ceiling", "smollm2")
SMOLLM2 = Path(__file__).parent.parent / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = (
    "In the years after the war the small town by the river grew into a place of trade, and its "
    "market drew people from all the villages around. They came with grain and wool, with pots "
    "and horses, and they went home with cloth and salt and news. The bridge was rebuilt in stone, "
    "a school was opened, and a newspaper told every week what was sold and at what price. The "
    "largest city of the country, however, and the seat of its parliament, was always the city of"
)


class Case:
    """A model with one prompt."""

    def __init__(self, model: LanguageModel, tokens: list[int], name: str) -> None:
        self.model, self.tokens, self.name = model, tokens, name
        self.last: dict[float | None, Effect] = {}
        self.target = int(model.logits(model.pad([tokens]))[0, -1].argmax())

    @classmethod
    def random(cls, n_layers: int, width: int, d_ff: int, vocabulary: int, n_tokens: int) -> Case:
        """A random Llama with random tokens."""
        config = transformers.LlamaConfig(
            hidden_size=width,
            intermediate_size=d_ff,
            num_hidden_layers=n_layers,
            num_attention_heads=max(6, width // 64),
            vocab_size=vocabulary,
            max_position_embeddings=1024,
            initializer_range=0.04,
            bos_token_id=1,
            eos_token_id=2,
        )
        torch.manual_seed(0)
        module = transformers.LlamaForCausalLM(config).eval()
        model = LanguageModel(module, tiny_tokenizer(), name=f"{n_layers}x{width}")
        tokens = torch.randint(3, vocabulary, (n_tokens,)).tolist()
        return cls(model, tokens, f"{n_layers}x{width}_{n_tokens}")

    def ours(self, prefilter: float | None = None) -> Effect:
        """Every neuron's effect, or those of a share; kept for what needs them again."""
        found = ablate_each(
            self.model, [self.tokens], target=self.target, prefilter=prefilter, progress=False
        )[0]
        self.last[prefilter] = found
        return found

    def loop(self, layers: range, neurons: range) -> np.ndarray:
        """The same of some neurons by the plain loop, [layer, neuron]."""
        parts = [
            effects_of(self.model, self.tokens, self.target, layer, neurons, batch=len(neurons))
            for layer in layers
        ]
        return torch.stack(parts).numpy()

    def minimal_work(self) -> float:
        """Floating point operations without which the effects cannot be had."""
        config, n_layers = self.model.config, self.model.n_layers
        width, d_ff = config.hidden_size, config.intermediate_size
        keys = config.num_key_value_heads * width // config.num_attention_heads
        row_layer = 2 * (2 * width**2 + 2 * width * keys + 3 * width * d_ff)
        rows = len(self.tokens) * n_layers + d_ff * n_layers * (n_layers - 1) / 2
        return row_layer * rows + 2 * width * config.vocab_size * d_ff * n_layers


def measure_ratio(case: Case, runs: int, layers: range, neurons: range) -> dict[str, float]:
    """Time of the loop, scaled from its sample, / ours.

    Raises:
        SystemExit: If the results differ by more than 1e-5 in log P.
    """
    found, expected = case.ours().values, case.loop(layers, neurons)
    error = float(np.abs(found[list(layers)][:, list(neurons)] - expected).max())
    if error > 1e-5:
        raise SystemExit(f"{case.name}: results differ by {error:.2g} in log P")
    times = alternate({"loop": lambda: case.loop(layers, neurons), "ours": case.ours}, runs)
    scale = found.size / (len(layers) * len(neurons))
    return {**ratio(times["loop"], times["ours"], scale), "seconds": times["ours"].median}


def measure_ceiling(case: Case, runs: int) -> dict[str, float]:
    """Share of the machine's rate of products that minimal work / time reaches."""
    a, b = torch.randn(2, PRODUCT, PRODUCT)

    def product() -> None:
        for _ in range(10):
            torch.mm(a, b)

    times = alternate({"product": product, "ours": case.ours}, runs, warm_up=False)
    work = case.minimal_work() / (10 * 2 * PRODUCT**3)
    return {**ratio(times["product"], times["ours"], work), "seconds": times["ours"].median}


def measure_prefilter(case: Case, runs: int) -> dict[str, float]:
    """Seconds of a tenth of the neurons, and what it finds of the 20 largest effects."""
    times = alternate({"a tenth": lambda: case.ours(0.1)}, runs)["a tenth"]
    whole, part = case.last.get(None) or case.ours(), case.last[0.1]
    truth = set(whole.order()[:20].tolist())
    missed = part.missed(20)
    return {
        "median": times.median,
        "low": min(times.seconds),
        "high": max(times.seconds),
        "seconds": times.median,
        "recall": len(truth & set(part.order()[:20].tolist())) / 20,
        "sampled": missed.sampled,
        "missed_share_at_most": missed.share,
        "missed_count_at_most": missed.count,
    }


def smollm2() -> Case | None:
    """The real model with a prompt of 100 tokens, where it is there."""
    if not SMOLLM2.exists():
        return None
    model = LanguageModel.from_pretrained(str(SMOLLM2), dtype="float32")
    return Case(model, model.encode([TEXT])[0][-100:], "smollm2")


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of small models")
    parser.add_argument("--large-runs", type=int, default=2, help="of SmolLM2")
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        help=f"only some of {', '.join(PARTS)}, such as those that need an idle machine",
    )
    options = parser.parse_args()
    parts = options.parts.split(",")
    if set(parts) - set(PARTS):
        parser.error(f"--parts: {', '.join(PARTS)}")
    torch.set_num_threads(1)
    found = {}
    if "ratios" in parts:
        found["ratio_atlas_50"] = measure_ratio(
            Case.random(6, 192, 512, 7000, 50), options.runs, range(1, 6, 2), range(0, 512, 4)
        )
        found["ratio_12x512_200"] = measure_ratio(
            Case.random(12, 512, 1344, 1000, 200), options.runs, range(1, 12, 6), range(0, 1344, 84)
        )
    if "ceiling" in parts:
        found["ceiling_12x768"] = measure_ceiling(
            Case.random(12, 768, 2048, 1000, 200), options.runs
        )
    case = smollm2() if "smollm2" in parts else None
    if case is not None:
        found["ceiling_smollm2"] = measure_ceiling(case, options.large_runs)
        found["prefilter_cpu_seconds"] = measure_prefilter(case, options.large_runs)
    print_table(
        ("figure", "median", "lowest", "highest", "our seconds"),
        [
            (name, *(f"{v[k]:.3g}" for k in ("median", "low", "high", "seconds")))
            for name, v in found.items()
        ],
    )
    result: dict[str, object] = {}
    for name, values in found.items():
        result[name] = round(values["median"], 3)
        result[f"{name}_spread"] = [round(values["low"], 3), round(values["high"], 3)]
    if case is not None:
        for name in ("recall", "missed_share_at_most", "missed_count_at_most"):
            result[f"prefilter_{name}"] = round(found["prefilter_cpu_seconds"][name], 5)
        result["smollm2_seconds"] = round(found["ceiling_smollm2"]["seconds"], 1)
    print_result(result)


if __name__ == "__main__":
    main()
