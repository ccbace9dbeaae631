"""The neurons behind an answer: attribution by a method, then the exact effect of the first ones.

1. The method gives every hidden neuron a number (:func:`broca.locate`).
2. The first neurons by that number are ablated one at a time at the last position: their exact
   effects, of an answer of several tokens summed over them, each at the position before it.
3. One backward pass gives gradient * value of every layer's neurons at every position, summed: a
   first-order estimate of what the answer loses without a layer's neurons there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from broca.attributions.precision import computed_in
from broca.effects.ablate import prepare
from broca.effects.aims import TargetLike, make_aims
from broca.effects.check import choose_form
from broca.effects.reading import make_reader
from broca.effects.replacement import Replacements
from broca.errors import PlayError
from broca.locators import LOCATORS, Located, find_locator, locate
from broca.model import LanguageModel
from broca.neurons import Neuron
from broca.play.answering import chosen_answer, own_token
from broca.play.editing import asked_text
from broca.play.graph import graph_of
from broca.play.jobs import Job
from broca.play.material import Material
from broca.play.state import State
from broca.progress import pulsed
from broca.prompts import Prompt
from broca.readout import token_text
from broca.report import Column, Table, as_csv
from broca.report.parts.points import points_with_axes
from broca.report.parts.positions import layer_position_map

LISTED = 60  # neurons listed, with their exact effects
_ROWS = 128  # branch rows at once: between two blocks a search can be stopped
_BLOCKS = ("ig", "ig-16", "exact")  # methods that take `internal_batch_size`


def methods(material: Material) -> list[tuple[str, str]]:
    """Names and titles of the methods that can be used here."""
    several = bool(material.prompts or material.questions or material.relations)
    return [(one.name, one.title) for one in LOCATORS.values() if several or not one.contrast]


def find(material: Material, state: State, job: Job) -> dict[str, Any]:
    """Everything that Find shows.

    Raises:
        BrocaError: Prompt, answer or method cannot be used, or the model cannot be attributed.
        Stopped: Nobody waits for it any more.
    """
    if not state.prompt.strip():
        raise PlayError("there is no prompt", mend="Type one, or choose a fact")
    model, text = material.model, asked_text(material, state)
    target = chosen_answer(model, text, state.answer) or own_token(model, text)
    answer = state.answer.strip() or model.tokenizer.decode(list(target))
    asked = Prompt("play", text, (answer,))
    aim: TargetLike = target[0] if len(target) == 1 else "answer"
    title = find_locator(state.method).title
    start = time.monotonic()
    with pulsed(_pulse(job, f"Attributing by {title}", model)):
        located = _locate(material, state, asked, aim)
    listed = first_neurons(located)
    about = {
        "method": state.method,
        "asked": text,
        "target": "".join(token_text(model, token) for token in target),
    }
    job.part({**about, "neurons": [_entry(n, value, None) for n, value in listed]})
    effects, log_p = exact_effects(model, asked, aim, [n for n, _ in listed], job)
    grid = gradient_map(model, text, target, job)
    rows = [_entry(n, v, e) for (n, v), e in zip(listed, effects, strict=True)]
    tokens = _columns(model, text, target)
    return {
        **about,
        "title": title,
        "neurons": rows,
        "seconds": time.monotonic() - start,
        "agreement": _agreement(rows),
        "n_answer": len(target),
        "figures": [_map(grid, tokens), _scatter(rows, title)],
        "csv": as_csv(_table(rows, _origin(material, state, text, target))),
        "graph": graph_of(model, text, target, log_p, rows),
        "tokens": tokens,
    }


def _pulse(job: Job, what: str, model: LanguageModel):
    """Tells how far a search has come, and gives way to answers unless the weights are cast."""
    start, before, stored = time.monotonic(), 0, model.dtype

    def told(done: int, total: int) -> None:
        nonlocal start, before
        if done < before:  # a further round: its time is its own
            start = time.monotonic()
        before = done
        job.progress(what, done, total, time.monotonic() - start)
        if model.dtype == stored:
            start += job.give_way()

    return told


def _locate(material: Material, state: State, asked: Prompt, aim: TargetLike) -> Located:
    locator = find_locator(state.method)
    batches = state.method in _BLOCKS
    settings: dict[str, Any] = {"internal_batch_size": _ROWS} if batches else {}
    others = material.others(asked.text) if locator.contrast else []
    if locator.contrast and not others:
        raise PlayError(
            f"{locator.title} compares the prompt with others and there are none",
            mend="Choose another method, or start the server with --facts or --questions",
        )
    return locate(material.model, [asked], state.method, target=aim, others=others, **settings)


def first_neurons(located: Located, k: int = LISTED) -> list[tuple[Neuron, float]]:
    """The first neurons by a method, with their numbers."""
    ranked = located.ranking(0, min(k, located.of_prompt(0).size))
    return list(zip(ranked, ranked.scores.tolist(), strict=True))


def exact_effects(
    model: LanguageModel, asked: Prompt, aim: TargetLike, neurons: Sequence[Neuron], job: Job
) -> tuple[list[float], float]:
    """What log P of the answer loses without each hidden neuron, and log P.

    Without it at the last position; of several tokens each at the last position before it, summed.

    Raises:
        EffectError: The model's neurons cannot be ablated one at a time.
        Stopped: Nobody waits for it any more.
    """
    tell = _pulse(job, "Measuring exact effects", model)
    losses, log_p = np.zeros(len(neurons)), 0.0
    places = np.array([(n.layer, n.index) for n in neurons]).reshape(-1, 2)
    with computed_in(model.module, torch.float32):
        (aims,) = make_aims(model, [asked], aim)
        nothing = Replacements(model, "zero").values(asked, aims[0])
        form, reader = choose_form(model, "auto"), make_reader(model)
        layers = sorted({n.layer for n in neurons})
        for number, one in enumerate(aims):
            ablation = prepare(model, one, nothing, reader)
            log_p += ablation.objective()
            for step, layer in enumerate(layers, start=number * len(layers)):
                tell(step, len(aims) * len(layers))
                rows = np.flatnonzero(places[:, 0] == layer)
                after = ablation.replaced(form, layer, torch.from_numpy(places[rows, 1]))
                losses[rows] += ablation.objective() - after.cpu().numpy()
    return losses.tolist(), log_p


def gradient_map(model: LanguageModel, text: str, target: Sequence[int], job: Job) -> np.ndarray:
    """Gradient * value of the hidden neurons, summed per layer and position, [layer, position].

    The gradient is that of log P of the whole answer, through everything that comes after; the
    positions are those of the prompt and of all answer tokens but the last.
    """
    job.check()
    ids = [*model.encode([text])[0], *target[:-1]]
    kept: dict[int, Tensor] = {}

    def keep(layer: int):
        def function(values: Tensor) -> Tensor:
            leaf = values if values.requires_grad else values.detach().requires_grad_()
            leaf.retain_grad()
            kept[layer] = leaf
            return leaf

        return function

    with computed_in(model.module, torch.float32), torch.enable_grad(), ExitStack() as stack:
        for layer in range(model.n_layers):
            if "hidden" in model.block(layer).widths():
                stack.enter_context(model.touch("hidden", layer, keep(layer)))
        batch = model.pad([ids])
        logits = model.forward(
            input_ids=batch.ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            logits_to_keep=len(target),
        )
        tokens = torch.tensor(list(target), device=logits.device)
        logits[0].log_softmax(-1)[torch.arange(len(target)), tokens].sum().backward()
    grid = np.zeros((model.n_layers, len(ids)))
    for layer, values in kept.items():
        if values.grad is not None:
            grid[layer] = (values.grad * values.detach()).sum(-1)[0].float().cpu().numpy()
    return grid


def _columns(model: LanguageModel, text: str, target: Sequence[int]) -> list[str]:
    ids = [*model.encode([text])[0], *target[:-1]]
    return [token_text(model, token) for token in ids]


def _entry(neuron: Neuron, value: float, effect: float | None) -> dict[str, Any]:
    return {"neuron": str(neuron), "layer": neuron.layer, "value": value, "effect": effect}


def _agreement(rows: Sequence[dict[str, Any]]) -> float | None:
    """Spearman correlation of attribution and exact effect over the neurons listed."""
    values, effects = (np.array([row[key] for row in rows]) for key in ("value", "effect"))
    if len(rows) < 3 or np.ptp(values) == 0 or np.ptp(effects) == 0:
        return None
    return float(stats.spearmanr(values, effects).statistic)  # pyright: ignore


def _map(grid: np.ndarray, tokens: Sequence[str]) -> dict[str, Any]:
    figure = layer_position_map(
        grid.tolist(),
        tokens,
        title="Where the answer is made",
        caption="Gradient × value of a layer's neurons at a token, summed: about what log P of the "
        "answer loses without them there. Red supports the answer, blue speaks against it.",
        value_title="estimated loss of log P",
    )
    return drawn(figure, "map")


def _scatter(rows: Sequence[dict[str, Any]], title: str) -> dict[str, Any]:
    points = [
        {"x": row["value"], "y": row["effect"], "layer": row["layer"], "label": row["neuron"]}
        for row in rows
    ]
    figure = points_with_axes(
        points,
        title="Attribution against exact effect",
        caption=f"The first {len(rows)} neurons: what {title} says of each, and what log P of the "
        "answer loses without it, measured. A click on a point "
        "uses it, as its name in the list above does, where the same numbers stand.",
        x_title=title,
        y_title="loss of log P without it",
        size=60,
    )
    return drawn(figure, "points")


def drawn(figure: Any, prefix: str) -> dict[str, Any]:
    """A figure as the page takes it."""
    return {
        "title": figure.title,
        "caption": figure.caption,
        "svg": figure.inline_svg(prefix),
        "heat": figure.heat,
        "values": figure.values,
    }


def _origin(material: Material, state: State, text: str, target: Sequence[int]) -> dict[str, str]:
    """What the numbers are of, by column: it stands in every row."""
    model = material.model
    return {
        "method": state.method,
        "prompt": text,
        "answer": "".join(token_text(model, token) for token in target),
        "model": model.name,
        "weights": model.identity.fingerprint,
    }


def _table(rows: Sequence[dict[str, Any]], origin: Mapping[str, str]) -> Table:
    names = ("neuron", "layer", "attribution", "loss of log P", *origin)
    cells = ((r["neuron"], r["layer"], r["value"], r["effect"], *origin.values()) for r in rows)
    return Table(tuple(map(Column, names)), list(cells))
