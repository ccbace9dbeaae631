"""The exact effect of every single neuron on a prompt's answer, at the cost of a row each.

For a prompt with target y and a hidden neuron i of layer l with value v at the last position:

    E(l, i) = log P(y; v <- r) - log P(y)

1. One ordinary forward pass per prompt keeps every layer's keys, values and last token.
2. A neuron replaced at the last position changes nothing before it, so each is one row that joins
   the residual stream behind its layer and passes the layers above (:mod:`broca.effects.rows`):
   F L(L-1)/2 row-layers for L layers of F neurons, where a loop runs F L whole prompts.
3. Of the vocabulary only the target's logit and the log of the sum are read
   (:mod:`broca.effects.reading`), the sum over most of it by moments where many rows are read
   (:mod:`broca.effects.nearby`).

Source: METHODS, "Locators and the truth"; exact single-neuron ablation is what attribution
methods approximate (integrated gradients: arXiv 2406.10868; AtP*: arXiv 2403.00745).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from broca.attributions.memory import RowBudget, gpu_bytes
from broca.attributions.precision import computed_in
from broca.effects.aims import Aim, PromptLike, TargetLike, listed, make_aims, objective_name
from broca.effects.check import choose_form
from broca.effects.effect import Effect, Effects, join_answer
from broca.effects.nearby import near
from broca.effects.prefilter import Chosen, check_share, choose_neurons, padded, unmeasured
from broca.effects.reading import Reader, make_reader
from broca.effects.replacement import Replacements
from broca.effects.rows import Ablation
from broca.engines.memory import BatchLimit, current_limit
from broca.errors import EffectError
from broca.model import LanguageModel
from broca.model.branches import base_pass
from broca.progress import pulse, track
from broca.prompts import Prompt

_CPU_ROWS = 512  # more neither speeds products up nor stays in the cache
_CPU_BYTES = 256 << 20
_GPU_SHARE = 1 / 3


@dataclass(frozen=True)
class _Settings:
    """Checked settings of one call."""

    form: str
    rows: int | None
    limit: BatchLimit


def ablate_each(
    model: LanguageModel,
    prompts: Sequence[PromptLike],
    replacement: str = "zero",
    *,
    reference: Sequence[PromptLike] | None = None,
    target: TargetLike = "answer",
    form: str = "auto",
    prefilter: float | None = None,
    sample: int | None = None,
    seed: int = 0,
    internal_batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> Effects:
    """Replace every hidden neuron at the last position, one at a time, and measure the answer.

    Args:
        model: The model under study.
        prompts: Prompts, texts or lists of token ids, of any lengths.
        replacement: What stands in a neuron's place: ``zero``, ``mean`` or ``resample``, see
            :mod:`broca.effects.replacement`.
        reference: Prompts that ``mean`` and ``resample`` take values from.
        target: ``"answer"``: the whole answer, log P summed over its tokens, each with the neuron
            replaced at the position that predicts it; ``"margin"``: of choice prompts, the right
            letter's logit over the best wrong one's; token ids, one for all or one per prompt; or
            whole answers, a list of token ids per prompt.
        form: ``auto`` or one of ``wavefront``, ``packed``, ``rows`` and ``whole``, see
            :mod:`broca.effects.rows`.
        prefilter: Measure only this share of the neurons, those that gradient * change ranks
            first, and a random sample of the rest; see :mod:`broca.effects.prefilter`.
        sample: Size of that sample; a tenth of the neurons ranked first by default.
        seed: Draws sample and resampled prompts.
        internal_batch_size: Rows at once; by default what fits the cache (a third of what
            the weights leave of a GPU). Halved whenever memory runs out.
        dtype: Precision; float32 whatever the weights are stored in, unless asked otherwise.
        progress: Whether to show progress.

    Raises:
        EffectError: If a setting is unknown, a replacement needs prompts and got none, an effect
            is not finite, or the model supports no form.
        AttributionError: If a prompt's answer has no token.
        PromptError: If a prompt has no token or exceeds the context.
    """
    prompts = listed(prompts)
    found = ablate_one_by_one(
        model,
        prompts,
        replacement,
        reference=reference,
        target=target,
        form=form,
        prefilter=prefilter,
        sample=sample,
        seed=seed,
        internal_batch_size=internal_batch_size,
        dtype=dtype,
    )
    if progress:
        found = track(found, "Measuring every neuron's effect", total=len(prompts))
    return Effects(tuple(found), model.identity)


def ablate_one_by_one(
    model: LanguageModel,
    prompts: Sequence[PromptLike],
    replacement: str = "zero",
    *,
    reference: Sequence[PromptLike] | None = None,
    target: TargetLike = "answer",
    form: str = "auto",
    prefilter: float | None = None,
    sample: int | None = None,
    seed: int = 0,
    internal_batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Effect]:
    """Yield one prompt's effects after the other.

    Arguments and errors are those of :func:`ablate_each`. A half-precision model is held in
    float32 until the iterator is exhausted or closed.
    """
    check_share(prefilter, sample)
    if not isinstance(dtype, torch.dtype):
        raise EffectError("dtype must be a type of torch", repr(dtype), "Such as torch.float32.")
    if internal_batch_size is not None and internal_batch_size < 1:
        raise EffectError("internal_batch_size must be at least 1", str(internal_batch_size))
    prompts = listed(prompts)
    with computed_in(model.module, dtype):
        aims = make_aims(model, prompts, target)
        replacements = Replacements(model, replacement, reference, seed)
        settings = _Settings(choose_form(model, form), internal_batch_size, current_limit())
        reader = make_reader(model)
        for prompt, tokens in zip(prompts, aims, strict=True):
            values = replacements.values(prompt, tokens[0])
            ablations = [prepare(model, aim, values, reader) for aim in tokens]
            chosen = choose_neurons(ablations, prefilter, sample, seed)
            parts = [_measure(one, chosen, settings, replacement) for one in ablations]
            yield join_answer(parts)


def ablate_one(
    model: LanguageModel, prompt: Prompt, layer: int, index: int, form: str = "auto"
) -> tuple[float, float]:
    """What a prompt's answer loses without one hidden neuron, and log P of the answer with it.

    Errors are those of :func:`ablate_each`.
    """
    with computed_in(model.module, torch.float32):
        (tokens,) = make_aims(model, [prompt], "answer")
        nothing = Replacements(model, "zero").values(prompt, tokens[0])
        chosen, reader = choose_form(model, form), make_reader(model)
        before = after = 0.0
        for aim in tokens:
            ablation = prepare(model, aim, nothing, reader)
            before += ablation.objective()
            after += float(ablation.replaced(chosen, layer, torch.tensor([index])))
    return before - after, before


def prepare(model: LanguageModel, aim: Aim, values: torch.Tensor, reader: Reader) -> Ablation:
    """One prompt ready to have neurons replaced by values [layer, neuron].

    Raises:
        EffectError: If its objective is not finite.
    """
    base = base_pass(model, model.pad([aim.tokens]))
    ablation = Ablation(model, base, aim, values.to(base.logits.device), reader)
    if not np.isfinite(ablation.objective()):
        raise EffectError(
            "The probability of the target is not finite",
            f"prompt {aim.id}",
            "The model overflows on this prompt; load it in float32 or bfloat16.",
        )
    return ablation


def _measure(ablation: Ablation, chosen: Chosen, settings: _Settings, replacement: str) -> Effect:
    model, base, aim = ablation.model, ablation.base, ablation.aim
    before = ablation.objective()
    values = unmeasured(model, base)
    total = sum(map(len, chosen.neurons))
    ablation = replace(ablation, nearby=near(ablation.reader.unembedding, base, total))
    rows = settings.rows or _rows_at_once(model, len(aim.tokens))
    budget = RowBudget(rows, "effects", settings.limit)
    left = {layer: some for layer, some in enumerate(chosen.neurons) if len(some)}
    together = settings.form == "wavefront"
    while left:

        def measure(rows: int, left: dict[int, torch.Tensor] = left):
            block = _first(left, rows, together)
            return block, ablation.replaced_in(settings.form, block)

        block, found = budget.fit(measure)
        sizes = [len(some) for some in block.values()]
        for (layer, some), part in zip(block.items(), found.split(sizes), strict=True):
            values[layer, some.numpy()] = (part - before).float().cpu().numpy()
        left = {layer: some[len(block.get(layer, ())) :] for layer, some in left.items()}
        left = {layer: some for layer, some in left.items() if len(some)}
        pulse(total - sum(map(len, left.values())), total)
    if not np.isfinite(values[:, :][~np.isnan(values)]).all() or _lost(values, chosen.neurons):
        raise EffectError("An effect is not finite", f"prompt {aim.id}", "Use dtype=float32.")
    return Effect(
        prompt_id=aim.id,
        target=(aim.target,),
        values=values,
        activations=padded([hidden[0].float().cpu() for hidden in base.hidden], np.nan).numpy(),
        before=before,
        objective=objective_name([[aim]]),
        replacement=replacement,
        form=settings.form,
        sampled=chosen.sampled,
    )


def _lost(values: np.ndarray, neurons: Sequence[torch.Tensor]) -> bool:
    """Whether a measured neuron has no number."""
    return any(np.isnan(values[layer, part.numpy()]).any() for layer, part in enumerate(neurons))


def _first(left: Mapping[int, torch.Tensor], rows: int, together: bool) -> dict[int, torch.Tensor]:
    """The next block: part of the lowest layer left, or as many whole layers as fit."""
    lowest = min(left)
    block = {lowest: left[lowest][: _even(len(left[lowest]), rows)]}
    if len(block[lowest]) < len(left[lowest]) or not together:
        return block
    for layer in sorted(left)[1:]:
        if sum(map(len, block.values())) + len(left[layer]) > rows:
            break
        block[layer] = left[layer]
    return block


def _even(left: int, rows: int) -> int:
    """Size of the next block: blocks of a layer are alike, none is a small remainder."""
    return -(-left // -(-left // rows))


def _rows_at_once(model: LanguageModel, n_tokens: int) -> int:
    """Rows whose values within a layer fit the memory set aside, and on a CPU its cache."""
    d_model = model.module.get_input_embeddings().weight.shape[1]
    d_ff = model.identity.width("hidden")
    heads = getattr(model.config, "num_attention_heads", 1)
    row = 4 * (12 * d_model + 4 * d_ff + 3 * heads * n_tokens)
    if model.device.type == "cuda":
        return max(1, gpu_bytes(model, _GPU_SHARE) // row)
    return max(1, min(_CPU_ROWS, _CPU_BYTES // row))
