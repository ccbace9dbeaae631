"""Which form the effects of a model can be measured in: checked by numbers once per model.

A form passes if a few neurons of the first, middle and last layer, replaced as branches of a
random prompt, give the log P of whole forward passes in which a hook replaces them.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from broca.attributions import FormCheck
from broca.attributions.memory import is_out_of_memory
from broca.attributions.precision import exact_products
from broca.effects.aims import Aim
from broca.effects.reading import make_reader
from broca.effects.rows import FORMS, Ablation
from broca.errors import EffectError
from broca.model import LanguageModel
from broca.model.branches import base_pass

_LENGTH = 17
_NEURONS = 3
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 0.2  # of log P, in float32 and in half precision

_CHECKED: WeakKeyDictionary[LanguageModel, dict[tuple, FormCheck]] = WeakKeyDictionary()


def choose_form(model: LanguageModel, form: str = "auto") -> str:
    """The fastest form that passes its check; a form asked for by name must pass it too.

    Raises:
        EffectError: If the form is unknown or none passes.
    """
    if form not in ("auto", *FORMS):
        raise EffectError(f"Unknown form {form!r}", mend=f"The forms are auto, {', '.join(FORMS)}.")
    failed = []
    for candidate in FORMS if form == "auto" else (form,):
        checked = check_form(model, candidate)
        if checked.passed:
            return candidate
        failed.append(str(checked))
    raise EffectError(
        f"Effects of single neurons cannot be measured in {model.name}",
        "; ".join(failed),
        "Load the model in float32 and without quantisation, or with attn_implementation='eager'.",
    )


def check_form(model: LanguageModel, form: str) -> FormCheck:
    """Measure a form on random tokens, or recall what was measured before."""
    implementation = str(getattr(model.config, "_attn_implementation", ""))
    key = (form, model.dtype, implementation)
    known = _CHECKED.setdefault(model, {})
    if key not in known:
        with exact_products():
            known[key] = _measure(model, form)
    return known[key]


def _measure(model: LanguageModel, form: str) -> FormCheck:
    tolerance = _TOLERANCE if model.dtype == torch.float32 else _HALF_TOLERANCE
    ablation = _random_ablation(model)
    worst = 0.0
    layers = [n for n, width in enumerate(model.identity.layer_widths("hidden")) if width]
    try:
        for layer in sorted({layers[0], layers[len(layers) // 2], layers[-1]}):
            width = model.identity.width("hidden", layer)
            spread = max(1, width // _NEURONS)
            neurons = torch.arange(_NEURONS).clamp(max=width - 1) * spread % width
            found = ablation.replaced(form, layer, neurons)
            expected = torch.stack([replaced_forward(ablation, layer, int(n)) for n in neurons])
            worst = max(worst, float((found - expected).abs().max().nan_to_num(nan=torch.inf)))
    except Exception as error:  # whatever a family raises, the form is not for it
        if is_out_of_memory(error):
            raise
        return FormCheck(form, float("inf"), tolerance, f"{type(error).__name__}: {error}"[:200])
    return FormCheck(form, worst, tolerance)


def _random_ablation(model: LanguageModel) -> Ablation:
    size = model.module.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    length = min(_LENGTH, model.max_tokens or _LENGTH)
    tokens = torch.randint(size, (length,), generator=generator).tolist()
    base = base_pass(model, model.pad([tokens]))
    aim = Aim("check", tuple(tokens), int(base.logits[0].argmax()))
    nothing = torch.zeros(model.n_layers, model.identity.width("hidden"), device=base.logits.device)
    return Ablation(model, base, aim, nothing, make_reader(model))


@torch.no_grad()
def replaced_forward(ablation: Ablation, layer: int, neuron: int) -> Tensor:
    """The objective of one whole forward pass with one neuron replaced by a hook: the slow way."""

    def replace(values: Tensor) -> Tensor:
        new = values.clone()
        new[:, -1, neuron] = ablation.replacement[layer, neuron].to(new)
        return new

    with ablation.model.touch("hidden", layer, replace):
        logits = ablation.model.logits(ablation.base.batch)
    return ablation.aim.read(logits[0, -1])
