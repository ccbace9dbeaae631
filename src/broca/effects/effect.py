"""The value this stage hands on: effects, with what a prefilter may have missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from broca.errors import EffectError
from broca.neurons import ModelIdentity, NeuronIndex, NeuronSet

SITE = "hidden"


class Missed(NamedTuple):
    """What may be missing among the k largest effects of a prefiltered prompt.

    Attributes:
        sampled: Neurons of the rest that were measured after all, drawn at random.
        above: How many of them have an effect as large as the k-th largest one found.
        largest: The largest effect among them, absolute; NaN where none was sampled.
        share: Upper end of the one-sided interval (Clopper-Pearson) for the share of the rest
            that is as large: 1 where none was sampled.
        count: The same as a number of neurons.
    """

    sampled: int
    above: int
    largest: float
    share: float
    count: float


@dataclass(frozen=True, eq=False)
class Effect:
    """What replacing each hidden neuron at the last position changes, one neuron at a time.

    Attributes:
        prompt_id: The prompt's id, or its number.
        target: Target token (of several answer tokens: all of them).
        values: Objective with the neuron replaced minus without, float32 [layer, neuron]; NaN
            where a prefilter left it out, and behind the end of a layer that is narrower than
            others. Negative: the neuron supports the answer.
        activations: Values of the neurons, float32 [layer, neuron]; of an answer's first token;
            NaN behind a layer's end.
        before: The objective with nothing replaced: log P of the answer, or the letter's margin.
        objective: ``log-probability`` or ``margin``.
        replacement: ``zero``, ``mean`` or ``resample``.
        form: Form of the computation, see :mod:`broca.effects.rows`.
        sampled: Neurons measured though the prefilter ranked them last, bool [layer, neuron];
            None where all neurons were measured.
    """

    prompt_id: str
    target: tuple[int, ...]
    values: np.ndarray
    activations: np.ndarray
    before: float
    objective: str
    replacement: str
    form: str
    sampled: np.ndarray | None = None

    @property
    def measured(self) -> np.ndarray:
        """Which neurons were measured, bool [layer, neuron]."""
        return ~np.isnan(self.values)

    def order(self, by: str = "size") -> np.ndarray:
        """Flat positions [measured neuron], the strongest first.

        Args:
            by: ``size`` of the effect, ``loss`` (what the answer loses), or ``gain``.

        Raises:
            EffectError: If ``by`` is none of these.
        """
        flat = self.values.ravel().astype(np.float64)
        keys = {"size": np.abs(flat), "loss": -flat, "gain": flat}
        if by not in keys:
            raise EffectError(f"Effects cannot be ranked by {by!r}", mend="Use size, loss or gain.")
        key = np.where(np.isnan(flat), -np.inf, keys[by])
        return np.argsort(-key, kind="stable")[: int(self.measured.sum())]

    def missed(self, k: int = 20, confidence: float = 0.95) -> Missed:
        """Bound what the prefilter may have missed of the k largest effects, by its sample.

        The neurons left out are as the random sample of them: with ``above`` of ``sampled`` as
        large as the k-th effect found, at most ``share`` of the rest is, at this confidence.
        """
        if self.sampled is None:
            return Missed(0, 0, float("nan"), 0.0, 0.0)
        size = np.abs(self.values)
        kept = size[self.measured & ~self.sampled]
        drawn = size[self.sampled]
        rest = int((~np.isnan(self.activations)).sum() - self.measured.sum())
        n = len(drawn)
        if n == 0 or len(kept) < k:
            return Missed(n, 0, float("nan"), 1.0, float(rest))
        above = int((drawn >= np.sort(kept)[-k]).sum())
        share = 1.0 if above == n else float(stats.beta.ppf(confidence, above + 1, n - above))
        return Missed(n, above, float(drawn.max()), share, share * rest)


@dataclass(frozen=True, eq=False)
class Effects(Sequence[Effect]):
    """The effects of several prompts: a sequence of them, and their stacked figures.

    Attributes:
        items: One per prompt, in the order asked.
        identity: The model they belong to.
    """

    items: tuple[Effect, ...]
    identity: ModelIdentity

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Effect]:
        return iter(self.items)

    @property
    def values(self) -> np.ndarray:
        """Changes of the objective, float32 [prompt, layer, neuron]."""
        return np.stack([item.values for item in self.items])

    @property
    def activations(self) -> np.ndarray:
        """Values of the neurons at the last position, float32 [prompt, layer, neuron]."""
        return np.stack([item.activations for item in self.items])

    @property
    def before(self) -> np.ndarray:
        """The objective with nothing replaced, [prompt]."""
        return np.array([item.before for item in self.items])

    def top(self, k: int, *, prompt: int = 0, by: str = "size", name: str = "") -> NeuronSet:
        """The k neurons of the strongest effect on one prompt; scores are the changes.

        Raises:
            EffectError: If fewer than k were measured.
        """
        item = self.items[prompt]
        order = item.order(by)
        if not 0 <= k <= len(order):
            raise EffectError(
                f"{k} neurons were asked for and {len(order)} were measured",
                f"prompt {item.prompt_id}",
            )
        index = NeuronIndex(self.identity, (SITE,))
        return index.select(
            index.from_grid(order[:k]),
            item.values.ravel()[order[:k]],
            name=name or item.prompt_id,
            method="exact",
            settings={"replacement": item.replacement, "objective": item.objective, "by": by},
        )

    def save(self, path: str | Path) -> Path:
        """Write the effects as one safetensors file, beside the target first and then renamed."""
        from broca.effects.files import write_effects

        return write_effects(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Effects:
        """Read what :meth:`save` wrote.

        Raises:
            EffectError: If the file is missing, malformed or of a newer format.
        """
        from broca.effects.files import read_effects

        return read_effects(Path(path))


def join_answer(parts: Sequence[Effect]) -> Effect:
    """One effect for an answer of several tokens: the sum over its tokens.

    The same neurons were measured for all of them.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    values = np.stack([part.values for part in parts]).sum(0, dtype=np.float64).astype(np.float32)
    return Effect(
        prompt_id=first.prompt_id,
        target=tuple(token for part in parts for token in part.target),
        values=values,
        activations=first.activations,
        before=sum(part.before for part in parts),
        objective=first.objective,
        replacement=first.replacement,
        form=first.form,
        sampled=first.sampled,
    )
