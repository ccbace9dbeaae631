"""Muon: momentum whose update is made orthogonal (Jordan et al. 2024), for matrices of equal shape.

1. m ← β m + (1 − β) g, and Nesterov's look-ahead u = (1 − β) g + β m;
2. X ← u / ‖u‖, then five Newton-Schulz steps X ← aX + (bA + cA²)X with A = XXᵀ, which bring all
   singular values near 1;
3. w ← (1 − lr · decay) w − lr · √max(1, rows / columns) · X.

Fused projections (query, key, value; gate, up) are treated one by one, as if they were apart.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(x: Tensor, steps: int = 5) -> Tensor:
    """Matrices [matrix, row, column] with singular values pushed towards 1."""
    a, b, c = NEWTON_SCHULZ
    x = x.bfloat16()
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.mT).float()


class Muon(torch.optim.Optimizer):
    def __init__(
        self,
        groups: Iterable[tuple[list[nn.Parameter], int]],
        lr: float,
        momentum: float = 0.95,
        decay: float = 0.05,
    ) -> None:
        """`groups`: parameters of one shape, and how many projections are stacked in each."""
        listed = [{"params": params, "parts": parts} for params, parts in groups]
        super().__init__(listed, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params, parts, beta = group["params"], group["parts"], group["momentum"]
            updates = []
            for param in params:
                state = self.state[param]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(param)
                state["momentum"].lerp_(param.grad, 1 - beta)
                updates.append(param.grad.lerp(state["momentum"], beta))
            rows, columns = params[0].shape
            stacked = torch.stack(updates).view(len(updates) * parts, rows // parts, columns)
            scale = max(1.0, stacked.shape[1] / stacked.shape[2]) ** 0.5
            update = (orthogonalise(stacked) * scale).reshape(len(updates), rows, columns)
            for param, change in zip(params, update, strict=True):
                param.mul_(1 - group["lr"] * group["decay"]).add_(change, alpha=-group["lr"])
