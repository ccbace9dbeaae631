"""The value this stage hands on: attributions with what tells how far to trust them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broca.errors import AttributionError
from broca.neurons import ModelIdentity, Neuron
from broca.tabular import Columns, Tabular

COMPLETENESS_TOLERANCE = 0.01
STEP_TOLERANCE = 0.02
NO_EFFECT = 1e-6


@dataclass(frozen=True, eq=False)
class Attribution:
    """Integrated gradients of every neuron of a site for one prompt and one target token.

    The objective is P of the target, or its log where :func:`attribute_answer_tokens` asks for
    it; ``probability`` and ``p_zero`` are then log P.

    Attributes:
        prompt_id: The prompt's id, or its number.
        target: Target token (of several answer tokens: all of them).
        values: NA, float32 [layer, neuron].
        activations: Values of the same neurons at the last position, float32 [layer, neuron].
        probability: The objective with nothing scaled.
        p_zero: The objective with a layer's neurons at 0, measured, [layer].
        convergence_delta: Sum of a layer's values minus (probability - p_zero), [layer].
        completeness_error: Largest absolute delta / largest |probability - p_zero|.
        step_change: Largest change of a value between two rules / largest absolute value.
        n_steps: Nodes spent.
        form: Form of the computation, see :mod:`broca.attributions.branching`.
        path: Path over a norm behind the MLP.
        site: The neurons' site.
        method: The rule of integration.
    """

    prompt_id: str
    target: tuple[int, ...]
    values: np.ndarray
    activations: np.ndarray
    probability: float
    p_zero: np.ndarray
    convergence_delta: np.ndarray
    completeness_error: float
    step_change: float
    n_steps: int
    form: str
    path: str
    site: str
    method: str

    def __repr__(self) -> str:
        layers, width = self.values.shape
        return (
            f"<Attribution of {self.prompt_id!r}: {layers} layers × {width:,} {self.site} neurons, "
            f"probability {self.probability:.3g}, largest {self.largest}>"
        )

    @property
    def largest(self) -> Neuron:
        """The neuron of the largest value."""
        # 0 stands behind the end of a layer that is narrower than others: no neuron is there.
        there = np.where(self.values == 0, -np.inf, self.values)
        layer, index = np.unravel_index(int(np.argmax(there)), there.shape)
        return Neuron(self.site, int(layer), int(index))

    @property
    def without_effect(self) -> bool:
        """Whether no layer's neurons change the objective: there is nothing to attribute."""
        return float(np.abs(self.probability - self.p_zero).max()) < NO_EFFECT

    @property
    def converged(self) -> bool:
        """Whether both figures are within their tolerance."""
        return (
            self.completeness_error <= COMPLETENESS_TOLERANCE and self.step_change <= STEP_TOLERANCE
        )


@dataclass(frozen=True, eq=False)
class Attributions(Sequence[Attribution], Tabular):
    """The attributions of several prompts: a sequence of them, and their stacked figures.

    Attributes:
        items: One per prompt, in the order asked.
        identity: The model they belong to.
        agreement: Where another dtype than float32 was asked for: largest difference from
            float32 on the first prompt / its largest value. None in float32.
    """

    items: tuple[Attribution, ...]
    identity: ModelIdentity
    agreement: float | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        n_converged = sum(item.converged for item in self.items)
        sites = ", ".join(dict.fromkeys(item.site for item in self.items))
        return (
            f"<Attributions of {self.identity.id}: {len(self):,} prompts, {sites} neurons, "
            f"{n_converged:,} converged>"
        )

    def columns(self, limit: int | None = None) -> Columns:
        """What each prompt's attribution reached, and its neuron of the largest value."""
        shown = self.items[:limit]
        return {
            "prompt": [item.prompt_id for item in shown],
            "target": [list(item.target) for item in shown],
            "probability": [item.probability for item in shown],
            "neuron": [str(item.largest) for item in shown],
            "value": [item.values[item.largest[1:]].item() for item in shown],
            "completeness_error": [item.completeness_error for item in shown],
            "step_change": [item.step_change for item in shown],
            "n_steps": [item.n_steps for item in shown],
            "converged": [item.converged for item in shown],
        }

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Attribution]:
        return iter(self.items)

    @property
    def values(self) -> np.ndarray:
        """NA, float32 [prompt, layer, neuron]."""
        return np.stack([item.values for item in self.items])

    @property
    def activations(self) -> np.ndarray:
        """Values of the neurons at the last position, float32 [prompt, layer, neuron]."""
        return np.stack([item.activations for item in self.items])

    @property
    def probability(self) -> np.ndarray:
        """P of the target with nothing scaled, [prompt]."""
        return np.array([item.probability for item in self.items])

    @property
    def p_zero(self) -> np.ndarray:
        """P with a layer's neurons at 0, [prompt, layer]."""
        return np.stack([item.p_zero for item in self.items])

    @property
    def convergence_delta(self) -> np.ndarray:
        """Sum of a layer's values minus (probability - p_zero), [prompt, layer]."""
        return np.stack([item.convergence_delta for item in self.items])

    @property
    def completeness_error(self) -> np.ndarray:
        """Relative error of the worst layer's sum, [prompt]."""
        return np.array([item.completeness_error for item in self.items])

    @property
    def step_change(self) -> np.ndarray:
        """Relative change of the worst neuron between two rules, [prompt]."""
        return np.array([item.step_change for item in self.items])

    @property
    def converged(self) -> np.ndarray:
        """Whether both figures are within their tolerance, bool [prompt]."""
        return np.array([item.converged for item in self.items])

    @property
    def without_effect(self) -> np.ndarray:
        """Whether there was nothing to attribute, bool [prompt]."""
        return np.array([item.without_effect for item in self.items])

    @property
    def n_steps(self) -> np.ndarray:
        """Nodes spent, [prompt]."""
        return np.array([item.n_steps for item in self.items])

    @property
    def converged_share(self) -> float:
        """Share of the prompts with an effect that converged; NaN if none has an effect."""
        judged = self.converged[~self.without_effect]
        return float(judged.mean()) if len(judged) else float("nan")


def join_answer(parts: Sequence[Attribution]) -> Attribution:
    """One attribution for an answer of several tokens: the sum over its tokens."""
    first = parts[0]

    def total(name: str) -> Any:
        return sum(getattr(part, name) for part in parts)

    return Attribution(
        prompt_id=first.prompt_id,
        target=tuple(token for part in parts for token in part.target),
        values=total("values"),
        activations=first.activations,
        probability=total("probability"),
        p_zero=total("p_zero"),
        convergence_delta=total("convergence_delta"),
        completeness_error=max(part.completeness_error for part in parts),
        step_change=max(part.step_change for part in parts),
        n_steps=max(part.n_steps for part in parts),
        form=first.form,
        path=first.path,
        site=first.site,
        method=first.method,
    )


def check_finite(name: str, prompt_id: str, values: np.ndarray | float) -> None:
    """Refuse NaN and infinity.

    Raises:
        AttributionError: Naming the prompt.
    """
    if not np.isfinite(values).all():
        raise AttributionError(
            f"{name} is not finite",
            f"prompt {prompt_id}",
            "The model overflows on this prompt; load it in float32 or bfloat16.",
        )
