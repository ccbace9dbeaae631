"""Prediction by neurons: the option that makes a field's neurons most active.

1. Every option of a question is put as the answer: the prompt goes on with the option's label, and
   the neurons' values are read at that last position (`record_options`).
2. A neuron set's **activity** for an option is the mean of its neurons' values.
3. Activities are normalised per option position: mean and standard deviation over the questions
   that the predictor was fitted on, since a model's neurons may prefer "A" whatever it says. A
   position that fewer than two of them have takes those of all activities at the other positions.
4. The most active option is the prediction.

Source: arXiv 2406.10868, section 6 (neuron-based prediction); METHODS §3, applications, 6. Steps 2
and 3 are ours: the paper does not say them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from broca.choices import Letters, find_letters
from broca.errors import PromptError, ScoreError
from broca.model import LanguageModel
from broca.neurons import SITES, NeuronSet
from broca.prompts import ChoicePrompt, Prompt
from broca.responses import Responses, record_responses

POOLING = "last"
BORDERS = {"bare": "", "space": " "}
FEWEST = 2  # questions that an option position needs for a mean and scale of its own
ROUNDING = 1e-6  # activities that differ by less, relatively, are equal in float32


class NeuronPredictor(ClassifierMixin, BaseEstimator):
    """Predicts the option that makes a set of neurons most active; see the module.

    The neurons are chosen beforehand: they are the columns of the activities. Without neurons that
    belong to the questions' field it predicts by chance.

    Attributes:
        classes_: Option positions, from 0.
        mean_: Mean activity per option position, [option].
        scale_: Standard deviation of the same; 1 where it is 0 but for rounding, [option].
        n_features_in_: Number of neurons.
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> NeuronPredictor:  # noqa: N803
        """Learn how active the neurons are at every option position.

        Args:
            X: Values of the neurons with each option put as the answer, float
                [question, option, neuron]; NaN where a question has fewer options.
            y: Positions of the right options, as scikit-learn has it; not needed.

        Raises:
            ScoreError: X is of another shape, empty, or infinite, or no option position is in two
                questions.
        """
        values = _checked(X)
        activity = _activity(values)
        if y is not None and len(np.asarray(y)) != len(values):
            raise ScoreError(f"{len(np.asarray(y))} right options for {len(values)} questions")
        there = ~np.isnan(activity)
        known = there.sum(axis=0) >= FEWEST
        if not known.any():
            raise ScoreError(
                f"No option position is in {FEWEST} of the questions to fit on",
                f"{len(values)} questions",
                "Activities are normalised per position: fit on more questions.",
            )
        self.mean_, self.scale_ = _moments(values, there)
        if not known.all():
            pooled = np.where(known[:, None], values, np.nan).reshape(-1, 1, values.shape[2])
            mean, scale = _moments(pooled, ~np.isnan(_activity(pooled)))
            self.mean_ = np.where(known, self.mean_, mean)
            self.scale_ = np.where(known, self.scale_, scale)
        self.classes_ = np.arange(values.shape[1])
        self.n_features_in_ = values.shape[2]
        return self

    def decision_function(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Normalised activity per option, [question, option]; -inf where there is no option.

        Args:
            X: As in `fit`, with as many options and neurons.

        Raises:
            NotFittedError: `fit` has not been called.
            ScoreError: X is of another shape.
        """
        if not hasattr(self, "mean_"):
            raise NotFittedError("This NeuronPredictor is not fitted yet; call fit first.")
        values = _checked(X)
        if values.shape[1:] != (len(self.mean_), self.n_features_in_):
            raise ScoreError(
                f"Activities of {values.shape[1]} options and {values.shape[2]} neurons",
                mend=f"It was fitted on {len(self.mean_)} and {self.n_features_in_}.",
            )
        z = (_activity(values) - self.mean_) / self.scale_
        return np.where(np.isnan(z), -np.inf, z)

    def predict(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Position of the most active option, [question]; the first of equal ones."""
        return self.decision_function(X).argmax(axis=1)

    def margin(self, X: ArrayLike, chosen: ArrayLike) -> np.ndarray:  # noqa: N803
        """How far an option is ahead of the best other one, [question].

        With the option that the model itself chose: how much its neurons agree with it.

        Args:
            X: As in `fit`.
            chosen: Option positions, [question].
        """
        z = self.decision_function(X)
        rows, chosen = np.arange(len(z)), np.asarray(chosen)
        own = z[rows, chosen]
        z[rows, chosen] = -np.inf
        return own - z.max(axis=1)


def _checked(X: ArrayLike) -> np.ndarray:  # noqa: N803
    values = np.asarray(X, float)
    if values.ndim != 3 or 0 in values.shape:
        raise ScoreError(
            f"Activities of shape {values.shape}",
            mend="They are [question, option, neuron], at least one of each; see record_options.",
        )
    if np.isinf(values).any():
        raise ScoreError("Activities are infinite", mend="Load the model in another precision.")
    return values


def _moments(values: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean activity and its standard deviation, each [option]; scale 1 where all are alike."""
    counts = np.maximum(there.sum(axis=0), 1)
    activity = _activity(values)
    mean = np.where(there, activity, 0.0).sum(axis=0) / counts
    squares = np.where(there, (activity - mean) ** 2, 0.0).sum(axis=0) / counts
    size = np.where(there, np.abs(values).mean(axis=2), 0.0).sum(axis=0) / counts
    spread = np.sqrt(squares)
    return mean, np.where(spread > ROUNDING * size, spread, 1.0)


def _activity(values: np.ndarray) -> np.ndarray:
    """Mean over the neurons, [question, option]; NaN where there is no option."""
    return values.mean(axis=2)


# ---- options put as answers


def record_options(
    model: LanguageModel,
    prompts: Sequence[ChoicePrompt],
    neurons: NeuronSet,
    *,
    variant: str = "auto",
    folder: str | Path | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Values of neurons with each option put as the answer, at that last position.

    Args:
        model: The model under study.
        prompts: Questions with options.
        neurons: Which neurons, of one or more sites.
        variant: "auto", "bare" or "space"; see `broca.choices.find_letters`.
        folder: Where to keep what is recorded; in memory if None.
        batch_size: Prompts per pass.

    Returns:
        float32 [prompt, option, neuron], neurons in rank order; NaN where a prompt has fewer
        options than others.

    Raises:
        QuestionsError: Labels begin with the same token.
        PromptError: A label cannot be put as the answer, or does not fit the context.
        NeuronError: The neurons belong to a model of another shape.
        ScoreError: There are no prompts or no neurons.
    """
    neurons.check(model.identity)
    if not len(neurons):
        raise ScoreError("There are no neurons to record", neurons.name or None)
    letters = list(find_letters(model, prompts, variant=variant))
    sites = tuple(dict.fromkeys(neuron.site for neuron in neurons))
    responses = record_responses(
        model,
        render_options(model, letters),
        sites,
        pooling=POOLING,
        folder=folder,
        batch_size=batch_size,
    )
    return option_values(responses, neurons, [len(one.prompt.labels) for one in letters])


def render_options(model: LanguageModel, letters: Sequence[Letters]) -> list[Prompt]:
    """Every prompt with each of its labels put as the answer, in the order of the options.

    The label is written as the letters measured are, and must follow the prompt's own tokens as
    the very token that stands for it.

    Raises:
        PromptError: It does not, or the text does not fit the context.
    """
    rendered = []
    for one in letters:
        for position, label in enumerate(one.prompt.labels):
            text = one.prompt.text + BORDERS[one.variant] + label
            ids = model.encode([text])[0]
            n = len(one.tokens)
            if tuple(ids[:n]) != one.tokens or ids[n:] not in [
                [t] for t in one.candidates[position]
            ]:
                raise PromptError(
                    f"The label {label!r} is no single token after this prompt",
                    one.prompt.id,
                    "Use labels of one token, such as A, B, C, D.",
                )
            rendered.append(_answered(one.prompt, position, text))
    return rendered


def _answered(prompt: ChoicePrompt, position: int, text: str) -> Prompt:
    return Prompt(
        id=f"{prompt.id}/answered.{position}",
        text=text,
        answers=(),
        relation=prompt.relation,
        language=prompt.language,
        template=prompt.template,
        fact=prompt.fact,
        field=prompt.field,
        role="answered",
    )


def option_values(responses: Responses, neurons: NeuronSet, n_options: Sequence[int]) -> np.ndarray:
    """Recorded values of some neurons, laid out by prompt and option.

    Args:
        responses: Of the prompts of `render_options`, in their order.
        neurons: Which neurons.
        n_options: Options of every prompt, [prompt].

    Returns:
        float32 [prompt, option, neuron], NaN where there is no option.
    """
    flat = np.empty((len(responses.prompt_ids), len(neurons)), np.float32)
    for site, layer in neurons.counts():
        here = (neurons.sites == SITES.index(site)) & (neurons.layers == layer)
        flat[:, here] = responses.block(site, layer)[:, neurons.indices[here]]
    laid_out = np.full((len(n_options), max(n_options), len(neurons)), np.nan, np.float32)
    laid_out[np.arange(max(n_options)) < np.array(n_options)[:, None]] = flat
    return laid_out
