"""What a cluster would take, by arithmetic: floating-point operations over the rate of a GPU.

1. An **answer** passes a prompt's tokens through all layers once: 2 FLOP per active parameter and
   token; so does a recorded prompt. Layers below the first edited one, and tokens before it, are
   passed over in runs; here they are not.
2. An **attribution** needs, for each node of the rule, one row per layer that passes the layers
   above it forward and backward: (L - 1) / 2 passes of one token per layer, of 6 FLOP per active
   parameter of a layer, for each of L layers.
3. A **worker** has as many GPUs as hold its weights and a fifth more: in bfloat16, and where it
   attributes in float32, to which weights are widened meanwhile. Its layers lie one behind the
   other, so it is as fast as one GPU.

The rate is the share of the GPU's dense bfloat16 peak that is reached, rounded down from what
`benchmarks/seven_billion.py` measured on one H200 with Llama-2-7B's shape: .36 for answers in
batches of 1,024; for attributions in float32 .23 with products in TF32 (`attribution_dtype =
"tf32"`) and .047 with exact ones, the default. Other sizes, mixtures of experts and models over
several GPUs were not measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A model by its size.

    Attributes:
        name: What it is called.
        parameters: Weights in memory.
        active: Weights that a token passes.
        n_layers: Decoder layers.
        bytes_each: Of a weight; 2 in bfloat16.
    """

    name: str
    parameters: float
    active: float
    n_layers: int
    bytes_each: int = 2


@dataclass(frozen=True)
class Gpu:
    """A GPU, and how much of it is used.

    Attributes:
        memory: Bytes.
        peak: FLOP per second, dense bfloat16.
        answering: Share of it reached by batches of short prompts.
        attributing: The same by rows of one token, forward and backward, with products in TF32.
        exact: The same with exact products.
    """

    memory: float = 141e9
    peak: float = 989e12
    answering: float = 0.3
    attributing: float = 0.2
    exact: float = 0.04


@dataclass(frozen=True)
class Work:
    """What a paper asks of a model.

    Attributes:
        evaluations: Answers, prompts times interventions.
        recorded: Prompts recorded.
        n_tokens: Tokens of a prompt and its answer.
        attributed: Prompts attributed.
        n_nodes: Nodes of the rule for each.
    """

    evaluations: int = 0
    recorded: int = 0
    n_tokens: int = 24
    attributed: int = 0
    n_nodes: int = 17


PAPERS = {
    "relation paper": Work(evaluations=276_442, recorded=23_918, n_tokens=18),
    "query paper": Work(evaluations=270_804, recorded=2_700, n_tokens=36, attributed=942),
}
"""As dry runs of both `paper.toml` count on atlas; tokens by SmolLM2's tokenizer, in the mean."""

SIZES = (
    Size("Llama-3.1-8B", 8.03e9, 8.03e9, 32),
    Size("Llama-3.1-70B", 70.6e9, 70.6e9, 80),
    Size("Qwen3-30B-A3B", 30.5e9, 3.3e9, 48),
)
GPUS = (1, 8, 64)
WIDE = 4  # bytes of a weight while it is attributed


@dataclass(frozen=True)
class Need:
    """What a model needs on some GPUs.

    Attributes:
        gpus_per_worker: GPUs that one copy takes.
        n_workers: Copies that fit; 0 where none does.
        gpu_bytes: Weights on each GPU of a worker, widened where it attributes.
        answers: Seconds for all answers and recordings; infinite where no worker fits.
        attributions: Seconds for all attributions, with products in TF32.
        exact: Seconds for them with exact products.
    """

    gpus_per_worker: int
    n_workers: int
    gpu_bytes: float
    answers: float
    attributions: float
    exact: float

    @property
    def seconds(self) -> float:
        """For all of it."""
        return self.answers + self.attributions

    @property
    def exact_seconds(self) -> float:
        """For all of it, with exact products."""
        return self.answers + self.exact

    @property
    def total_bytes(self) -> float:
        """Of the weights of all workers."""
        return self.n_workers * self.gpus_per_worker * self.gpu_bytes


def need(size: Size, n_gpus: int, work: Work, gpu: Gpu | None = None) -> Need:
    """Time and memory of some work on a number of GPUs, with perfectly even workers.

    Args:
        size: The model.
        n_gpus: GPUs there are.
        work: What is computed.
        gpu: Each of them.
    """
    gpu = gpu or Gpu()
    held = size.parameters * max(size.bytes_each, WIDE if work.attributed else 0)
    per_worker = math.ceil(1.2 * held / gpu.memory)
    workers = n_gpus // per_worker
    answer = 2 * size.active * work.n_tokens
    attribution = 6 * size.active * work.n_nodes * (size.n_layers - 1) / 2
    answers = (work.evaluations + work.recorded) * answer / (gpu.answering * gpu.peak)
    all_attributions = work.attributed * attribution / gpu.peak
    found = answers, all_attributions / gpu.attributing, all_attributions / gpu.exact
    shared = (seconds / workers if workers else math.inf for seconds in found)
    return Need(per_worker, workers, held / per_worker, *shared)


def as_markdown(paper: str) -> str:
    """A table of docs/scale.md.

    Args:
        paper: A name out of :data:`PAPERS`.
    """
    work = PAPERS[paper]
    times = ("with `tf32`", "exact float32") if work.attributed else ("time",)
    fixed = ("model", "GPUs", "`--workers`", "`--gpus-per-worker`", "GiB of weights per GPU")
    names = (*fixed, *times)
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for size in SIZES:
        for n_gpus in GPUS:
            found = need(size, n_gpus, work)
            seconds = (found.seconds, found.exact_seconds)[: len(times)]
            cells = [size.name, n_gpus, found.n_workers or "does not fit", found.gpus_per_worker]
            cells += [f"{found.gpu_bytes / 2**30:.0f}", *map(_duration, seconds)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if math.isinf(seconds):
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
