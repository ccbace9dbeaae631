"""Which form of the computation a model supports: measured once per model, never assumed.

A form passes if its branches at factor 1 give the base pass's own log P, and at factor 1/2 that
of full forward passes in which hooks scale the site at the last position.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from broca.attributions.branching import FORMS, Branches, Path
from broca.attributions.precision import exact_products
from broca.engines.memory import is_out_of_memory
from broca.errors import AttributionError
from broca.model import LanguageModel
from broca.model.branches import base_pass, routing_held
from broca.model.measured import random_tokens

_LENGTHS = (17, 12)  # two lengths, so that padding is part of the check
_LAYERS = 6  # of a deep model, this many layers are compared at factor 1/2
_HALF = 0.5


@dataclass(frozen=True)
class FormCheck:
    """What was measured of one form.

    Attributes:
        form: Its name.
        error: Largest difference of log P; infinite if the form could not run.
        tolerance: What is allowed.
        reason: Why it could not run, "" if it could.
    """

    form: str
    error: float
    tolerance: float
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

    def __str__(self) -> str:
        return f"{self.form}: {self.reason or f'log P is off by {self.error:.2g}'}"


_CHECKED: WeakKeyDictionary[LanguageModel, dict[tuple, FormCheck]] = WeakKeyDictionary()


def choose_form(model: LanguageModel, path: Path, form: str = "auto") -> str:
    """The fastest form that passes its check; a form asked for by name must pass it too.

    Raises:
        AttributionError: If the form is unknown or none passes.
    """
    if form not in ("auto", *FORMS):
        raise AttributionError(f"Unknown form {form!r}", mend=f"The forms are {', '.join(FORMS)}.")
    failed = []
    for candidate in FORMS if form == "auto" else (form,):
        checked = check_form(model, path, candidate)
        if checked.passed:
            return candidate
        failed.append(str(checked))
    quantised = getattr(model.config, "quantization_config", None)
    mend = (
        "Load it without quantisation: 8-bit layers round activations together, whatever else is "
        "in the batch."
        if quantised
        else "Try attn_implementation='eager'."
    )
    raise AttributionError(f"{model.name} cannot be attributed", "; ".join(failed), mend)


def check_form(model: LanguageModel, path: Path, form: str) -> FormCheck:
    """Measure a form on random tokens, or recall what was measured before."""
    implementation = str(getattr(model.config, "_attn_implementation", ""))
    key = (form, path.site, path.kind, path.routing, model.dtype, implementation)
    known = _CHECKED.setdefault(model, {})
    if key not in known:
        with exact_products():
            known[key] = _measure(model, replace(path, objective="log-probability"), form)
    return known[key]


def _measure(model: LanguageModel, path: Path, form: str) -> FormCheck:
    tolerance = 2e-3 if model.dtype == torch.float32 else 0.2
    try:
        branches = _random_branches(model, path)
        sampled = branches.sample(form, range(model.n_layers), torch.tensor([_HALF, 1.0]), False)
    except Exception as error:  # whatever a family raises, the form is not for it
        if is_out_of_memory(error):
            raise
        return FormCheck(form, float("inf"), tolerance, f"{type(error).__name__}: {error}"[:200])
    worst = (sampled.objective[..., 1] - branches.objective().unsqueeze(1)).abs().max()
    stride = -(-model.n_layers // _LAYERS)
    for layer in range(0, model.n_layers, stride):
        reference = scaled_forward(branches, layer, _HALF)
        worst = torch.maximum(worst, (sampled.objective[:, layer, 0] - reference).abs().max())
    return FormCheck(form, float("inf") if worst.isnan() else float(worst), tolerance)


def _random_branches(model: LanguageModel, path: Path) -> Branches:
    lengths = _LENGTHS if model.drive.pads else _LENGTHS[:1] * 2
    tokens = random_tokens(model, lengths)
    base = base_pass(model, model.pad(tokens), path.site)
    return Branches(model, base, base.logits.argmax(-1), path)


@torch.no_grad()
def scaled_forward(branches: Branches, layer: int, factor: float) -> Tensor:
    """The objective [prompt] of full forward passes with one layer scaled by a hook: the slow way.

    On the frozen path the norm behind the MLP maps only the difference that the factor makes.
    """
    model, base, tail = branches.model, branches.base, branches.tails[layer]

    def scale(values: Tensor) -> Tensor:
        return torch.cat([values[:, :-1], factor * values[:, -1:]], dim=1)

    def freeze(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        assert tail.frozen is not None
        moved = tail.frozen(args[0][:, -1:] - base.down[layer].unsqueeze(1))
        normed = base.normed[layer]
        assert normed is not None
        return torch.cat([output[:, :-1], normed.unsqueeze(1) + moved], dim=1)

    if branches.path.site not in model.block(layer).widths():
        return branches.objective()
    with ExitStack() as stack:
        if branches.path.routing == "frozen" and model.identity.experts:
            stack.enter_context(routing_held(model, base, 1))
        stack.enter_context(model.touch(branches.path.site, layer, scale))
        if tail.frozen is not None:
            norm = tail.block.post_mlp_norm
            assert norm is not None
            stack.callback(norm.register_forward_hook(freeze).remove)
        logits = model.logits(base.batch)
    return branches.path.read(logits, branches.targets)[:, 0]
