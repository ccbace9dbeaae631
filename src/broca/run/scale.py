"""What a cluster would take, by arithmetic: floating-point operations over the rate of a GPU.

1. An **answer** passes a prompt's tokens through all layers once: 2 FLOP per active parameter and
   token. Layers below the first edited one are passed over in runs; here they are not.
2. An **attribution** needs, for each node of the rule, one row per layer that passes the layers
   above it forward and backward: (L - 1) / 2 passes of one token per layer, of 6 FLOP per active
   parameter of a layer, for each of L layers.
3. A **worker** has as many GPUs as hold its weights in bfloat16 and a fifth more. Its layers lie
   one behind the other, so it is as fast as one GPU.

The rate is the share of the GPU's dense bfloat16 peak that is reached. No GPU was measured: the
share is an assumption, and the table is as good as it is.
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

    @property
    def weight_bytes(self) -> float:
        """Of all weights."""
        return self.bytes_each * self.parameters


@dataclass(frozen=True)
class Gpu:
    """A GPU, and how much of it is used.

    Attributes:
        memory: Bytes.
        peak: FLOP per second, dense bfloat16.
        answering: Share of it reached by batches of short prompts; assumed.
        attributing: The same by rows of one token, forward and backward; assumed.
    """

    memory: float = 141e9
    peak: float = 989e12
    answering: float = 0.3
    attributing: float = 0.2


@dataclass(frozen=True)
class Work:
    """What both papers ask of a model.

    Attributes:
        evaluations: Answers, prompts times interventions.
        n_tokens: Tokens of a prompt and its answer.
        attributed: Prompts attributed.
        n_nodes: Nodes of the rule for each.
    """

    evaluations: int = 243_522  # of `recipes/relations/paper.toml` on atlas, as a run counted
    n_tokens: int = 24
    attributed: int = 3_000
    n_nodes: int = 17


SIZES = (
    Size("Llama-3.1-8B", 8.03e9, 8.03e9, 32),
    Size("Llama-3.1-70B", 70.6e9, 70.6e9, 80),
    Size("Qwen3-30B-A3B", 30.5e9, 3.3e9, 48),
)
GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Need:
    """What a model needs on some GPUs.

    Attributes:
        gpus_per_worker: GPUs that one copy takes.
        n_workers: Copies that fit; 0 where none does.
        gpu_bytes: Weights on each GPU of a worker.
        answers: Seconds for all evaluations; infinite where no worker fits.
        attributions: Seconds for all attributions.
    """

    gpus_per_worker: int
    n_workers: int
    gpu_bytes: float
    answers: float
    attributions: float

    @property
    def total_bytes(self) -> float:
        """Of the weights of all workers."""
        return self.n_workers * self.gpus_per_worker * self.gpu_bytes


def need(size: Size, n_gpus: int, work: Work | None = None, gpu: Gpu | None = None) -> Need:
    """Time and memory of both papers on a number of GPUs, with perfectly even workers.

    Args:
        size: The model.
        n_gpus: GPUs there are.
        work: What is computed.
        gpu: Each of them.
    """
    work, gpu = work or Work(), gpu or Gpu()
    per_worker = math.ceil(1.2 * size.weight_bytes / gpu.memory)
    workers = n_gpus // per_worker
    share = 1 / workers if workers else math.inf
    answer = 2 * size.active * work.n_tokens
    attribution = 6 * size.active * work.n_nodes * (size.n_layers - 1) / 2
    return Need(
        per_worker,
        workers,
        size.weight_bytes / per_worker,
        share * work.evaluations * answer / (gpu.answering * gpu.peak),
        share * work.attributed * attribution / (gpu.attributing * gpu.peak),
    )


def as_markdown() -> str:
    """The table of docs/scale.md."""
    lines = [
        "| model | GPUs | `--workers` | `--gpus-per-worker` | GiB of weights per GPU "
        "| relation paper | query paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        for n_gpus in GPUS:
            found = need(size, n_gpus)
            cells = [size.name, n_gpus, found.n_workers or "does not fit", found.gpus_per_worker]
            cells.append(f"{found.gpu_bytes / 2**30:.0f}")
            cells += [_duration(found.answers), _duration(found.attributions)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if math.isinf(seconds):
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
