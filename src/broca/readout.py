"""Read a neuron: what its value vector says, and where it fires.

1. The final norm is found by what it does in a pass (its input is the last block's output, its
   output is the unembedding's input), and the whole way from the last block to the logits is
   checked against the model's own logits, a soft cap and a factor included.
2. A value vector goes through that norm and the unembedding. What a zero vector would give (the
   norm's and the unembedding's biases, the same for every neuron) is taken off.
3. The neuron's values on prompts tell where it fires, and on which token.

A gated neuron can be negative: then it speaks against its top tokens and for its bottom ones.

Source: NA-ICA (arXiv 2406.10868), analysis of common neurons; Geva et al. 2022 (value vectors as
distributions over the vocabulary).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from broca.errors import ModelError, NeuronError
from broca.model import LanguageModel
from broca.neurons import Neuron
from broca.progress import track
from broca.prompts import Prompt

TOLERANCE = 1e-4  # of the largest logit, float32
_TEXT = "The quick brown fox"


@dataclass(frozen=True, eq=False)
class Unembedding:
    """The way from the last block to the logits.

    Attributes:
        norm: The final norm, None where the model has none.
        head: The unembedding.
        cap: Soft cap: logits are ``cap * tanh(raw / cap)``; None without.
        factor: What logits are multiplied by.
        error: Largest difference from the model's own logits / the largest of them, measured.
    """

    norm: nn.Module | None
    head: nn.Module
    cap: float | None
    factor: float
    error: float

    def raw(self, rows: Tensor) -> Tensor:
        """Logits before factor and cap, float32 [..., vocab], of residual rows [..., d_model]."""
        weight = self.head.weight
        assert isinstance(weight, Tensor)
        rows = rows.to(weight.device, weight.dtype)
        return self.head(self.norm(rows) if self.norm is not None else rows).float()

    def logits(self, rows: Tensor) -> Tensor:
        """The model's logits, float32 [..., vocab], of rows that leave the last block."""
        scaled = self.raw(rows) * self.factor
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)


@dataclass(frozen=True)
class TokenScore:
    """A token and how much a value vector raises its logit (in units of the normed vector)."""

    token: str
    id: int
    score: float


@dataclass(frozen=True)
class Readout:
    """What one neuron's value vector says.

    Attributes:
        neuron: The neuron.
        top: Tokens whose logits it raises most when it is positive, best first.
        bottom: Tokens whose logits it lowers most, worst first.
        length: Length of the value vector / the mean length in its layer.
    """

    neuron: Neuron
    top: tuple[TokenScore, ...]
    bottom: tuple[TokenScore, ...]
    length: float


@dataclass(frozen=True)
class Firing:
    """Where a neuron is strongest in one prompt.

    Attributes:
        prompt: The prompt.
        value: Its value of largest magnitude there.
        position: Position of that token, from 0.
        tokens: The prompt's tokens as text.
        values: Its value at each token.
    """

    prompt: Prompt
    value: float
    position: int
    tokens: tuple[str, ...]
    values: tuple[float, ...]

    @property
    def token(self) -> str:
        """The token at which it is strongest."""
        return self.tokens[self.position]


# ---- value vectors


@torch.no_grad()
def find_unembedding(model: LanguageModel) -> Unembedding:
    """Find the final norm and the unembedding, and check them against the model's logits.

    Raises:
        ModelError: If what lies between the last block and the logits is something else.
    """
    head = model.module.get_output_embeddings()
    if head is None or not isinstance(getattr(head, "weight", None), Tensor):
        raise ModelError("The model has no unembedding that can be read", model.name)
    ids = model.encode([_TEXT])[0]
    with _calls_seen(model) as calls:
        logits = model.logits(model.pad([ids]), logits_to_keep=len(ids))[0]
    last = calls[id(model.layers[-1])][1][0]
    into_head = calls[id(head)][0][0]
    norm = _norm_between(model, calls, last, into_head)
    config = model.config
    cap = getattr(config, "final_logit_softcapping", None)
    found = Unembedding(norm, head, cap, 1.0, 0.0)
    raw = found.raw(last)
    uncapped = (
        logits if cap is None else cap * torch.atanh((logits / cap).clamp(-1 + 1e-6, 1 - 1e-6))
    )
    factor = float((raw * uncapped).sum() / (raw * raw).sum())
    factor = 1.0 if abs(factor - 1) < 1e-3 else factor
    found = Unembedding(norm, head, cap, factor, 0.0)
    error = float((found.logits(last) - logits).abs().max() / logits.abs().max())
    if not error <= (TOLERANCE if model.dtype == torch.float32 else 2e-2):
        raise ModelError(
            f"Final norm and unembedding do not give the model's logits (error {error:.1e})",
            model.name,
            "The model changes its logits in a way that broca does not know.",
        )
    return Unembedding(norm, head, cap, factor, error)


@contextmanager
def _calls_seen(model: LanguageModel) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """First input and output of every module outside the blocks, and of the last block."""
    calls: dict[int, tuple[Tensor, Tensor]] = {}
    inside = {id(m) for layer in model.layers for m in layer.modules()} - {id(model.layers[-1])}

    def see(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
        result = output[0] if isinstance(output, tuple) else output
        if first is not None and isinstance(result, Tensor):
            calls[id(module)] = (first, result)

    handles = [
        module.register_forward_hook(see, with_kwargs=True)
        for module in model.module.modules()
        if id(module) not in inside
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _norm_between(
    model: LanguageModel, calls: dict[int, tuple[Tensor, Tensor]], last: Tensor, into_head: Tensor
) -> nn.Module | None:
    if last.shape == into_head.shape and torch.equal(last, into_head):
        return None
    for module in model.module.modules():
        if id(module) not in calls or module in model.layers:
            continue
        given, result = calls[id(module)]
        fits = given.shape[-1] == last.shape[-1] and given.dim() == last.dim() + 1
        if fits and torch.equal(given[0], last) and torch.equal(result[0], into_head):
            return module
    raise ModelError(
        "The final norm was not found",
        model.name,
        "Between the last block and the unembedding lies more than one module.",
    )


@torch.no_grad()
def read_values(
    model: LanguageModel,
    neurons: Sequence[Neuron],
    *,
    n_tokens: int = 10,
    unembedding: Unembedding | None = None,
) -> list[Readout]:
    """Top and bottom tokens of neurons' value vectors.

    Args:
        model: The model under study.
        neurons: Hidden neurons; ``gate`` and ``up`` stand for the same unit's hidden neuron.
        n_tokens: Tokens at either end.
        unembedding: What :func:`find_unembedding` gave, to look only once.

    Raises:
        NeuronError: If a neuron does not exist or its site has no value vector.
        ModelError: If the unembedding cannot be read or the model is quantised.
    """
    for neuron in neurons:
        check_value_vector(model, neuron)
    found = unembedding or find_unembedding(model)
    readouts = []
    for neuron in neurons:
        block = model.block(neuron.layer)
        vector = model.value_column(neuron.layer, neuron.index)
        rows = torch.stack([vector, torch.zeros_like(vector)])
        if block.post_mlp_norm is not None:
            rows = block.post_mlp_norm(rows)
        said = found.raw(rows * block.multiplier)
        scores = (said[0] - said[1]) * (1 if found.factor > 0 else -1)
        order = scores.argsort(descending=True, stable=True).tolist()
        ends = order[:n_tokens], order[::-1][:n_tokens]
        top, bottom = (
            tuple(TokenScore(token_text(model, i), i, float(scores[i])) for i in end)
            for end in ends
        )
        mean = float(model.value_norms(neuron.layer).mean())
        length = float(vector.float().norm()) / max(mean, 1e-12)
        readouts.append(Readout(neuron, top, bottom, length))
    return readouts


def token_text(model: LanguageModel, token: int) -> str:
    """A token as text; its name in the vocabulary where it is only a part of a character."""
    text = model.tokenizer.decode([token])
    return str(model.tokenizer.convert_ids_to_tokens(token)) if "\ufffd" in text else text


def check_value_vector(model: LanguageModel, neuron: Neuron) -> None:
    """Refuse a neuron that the model lacks or that has no value vector.

    Raises:
        NeuronError: Naming it.
    """
    check_neuron(model, neuron)
    if neuron.site not in ("hidden", "gate", "up"):
        raise NeuronError(
            f"Neurons of site {neuron.site!r} have no value vector",
            str(neuron),
            "Only hidden neurons have (gate and up: of the same unit).",
        )


def check_neuron(model: LanguageModel, neuron: Neuron) -> None:
    """Refuse a neuron that the model lacks.

    Raises:
        NeuronError: Naming it.
    """
    model.identity_check(neuron.site, neuron.layer)
    width = model.identity.width(neuron.site, neuron.layer)
    if not 0 <= neuron.index < width:
        raise NeuronError(
            f"{model.name} has no neuron {neuron}", mend=f"Indices go from 0 to {width - 1}."
        )


# ---- where it fires


@torch.no_grad()
def find_firings(
    model: LanguageModel, neuron: Neuron, prompts: Sequence[Prompt], *, batch_size: int = 64
) -> list[Firing]:
    """Where a neuron is strongest in each prompt, strongest prompt first.

    Args:
        model: The model under study.
        neuron: A neuron of any site.
        prompts: What the model reads.
        batch_size: Prompts per pass.

    Raises:
        NeuronError: If the model has no such neuron.
        PromptError: If a prompt does not fit the model.
    """
    check_neuron(model, neuron)
    tokens = model.encode([prompt.text for prompt in prompts])
    batches = model.batches([len(ids) for ids in tokens], batch_size)
    firings = []
    for rows in track(batches, f"Looking where {neuron} fires"):
        kept: list[Tensor] = []

        def keep(tensor: Tensor, kept: list[Tensor] = kept) -> None:
            kept[:] = [tensor[..., neuron.index].float().cpu()]

        with model.watch(neuron.site, neuron.layer, keep):
            model.logits(model.pad([tokens[i] for i in rows]))
        for row, i in enumerate(rows):
            values = kept[0][row, -len(tokens[i]) :]
            position = int(values.abs().argmax())
            texts = tuple(token_text(model, token) for token in tokens[i])
            value = float(values[position])
            firings.append(Firing(prompts[i], value, position, texts, tuple(values.tolist())))
    return sorted(firings, key=lambda firing: (-abs(firing.value), firing.prompt.id))
