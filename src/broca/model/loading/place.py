"""Where a model is put when nobody says: on the GPUs, if there are any.

Of several processes that torchrun or Slurm started on a machine, each takes one GPU.
"""

from __future__ import annotations

import os
import re

import torch

EMBEDDED = "atlas"

_BESIDE = {"LOCAL_RANK": "LOCAL_WORLD_SIZE", "SLURM_LOCALID": "SLURM_STEP_TASKS_PER_NODE"}
"""Number of a process among those of its job on its machine -> how many these are."""


def usual_place(name: str) -> str | None:
    """`device_map` for a model: "auto" where there is a GPU, None (as transformers does) where not.

    One GPU where other processes of the job run beside this one. The embedded model stays on the
    processor, where it is as fast.
    """
    if not torch.cuda.is_available() or name == EMBEDDED:
        return None
    rank, n_gpus = _rank_beside_others(), torch.cuda.device_count()
    return "auto" if rank is None or n_gpus < 2 else f"cuda:{rank % n_gpus}"


def _rank_beside_others() -> int | None:
    """This process's number among those beside it, None where it is alone."""
    for rank, beside in _BESIDE.items():
        number, n = _leading(rank), _leading(beside)  # Slurm writes "4(x2)"
        if number is not None and (number > 0 or (n or 1) > 1):
            return number
    return None


def _leading(variable: str) -> int | None:
    found = re.match(r"\d+", os.environ.get(variable, ""))
    return int(found[0]) if found else None
