"""Where a model is put when nobody says: on the GPUs, if there are any."""

from __future__ import annotations

import torch

EMBEDDED = "atlas"


def usual_place(name: str) -> str | None:
    """`device_map` for a model: "auto" where there is a GPU, None (as transformers does) where not.

    The embedded model stays on the processor, where it is as fast.
    """
    return "auto" if torch.cuda.is_available() and name != EMBEDDED else None
