"""The answer without and with the chips' changes, and with those of matched random neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from broca.errors import PlayError
from broca.interventions import Deactivate, Fix, Intervention, Scale
from broca.neurons import Neuron, NeuronSet, matched_together
from broca.neurons.digest import digest_of
from broca.play.answering import Row, answer_rows, chosen_answer
from broca.play.jobs import Job
from broca.play.material import Material
from broca.play.state import Chip, State
from broca.prompts import put_own
from broca.readout import check_neuron, token_text

COMPARED = 8  # next tokens of clean and of edited that are compared


def asked_text(material: Material, state: State) -> str:
    """The prompt as the model reads it.

    Raises:
        PromptError: The form cannot be asked in, or the prompt does not fit the model.
    """
    text = put_own(state.prompt, state.form, state.shots, material.model.chat)
    material.model.encode([text])
    return text


def chip_set(material: Material, chip: Chip) -> NeuronSet:
    """The neurons of a chip.

    Raises:
        PlayError: The server has no such set.
        NeuronError: The model has no such neuron.
    """
    if chip.set is not None:
        return material.find_set(chip.set)
    neurons = [Neuron.parse(name) for name in chip.neurons]
    for neuron in neurons:
        check_neuron(material.model, neuron)
    method = (chip.origin and chip.origin.method) or "by hand"
    return NeuronSet.of(neurons, material.model.identity, name=chip.name, method=method)


def change_of(
    material: Material, chip: Chip, neurons: NeuronSet, positions: str, asked: str
) -> Intervention:
    """What a chip does, done with some neurons: its own, or matched random ones.

    Args:
        material: What the server has.
        chip: The chip.
        neurons: The neurons.
        positions: Where they are changed.
        asked: The prompt as the model reads it: means are those of other prompts.
    """
    if chip.change == "off":
        return Deactivate(neurons, positions)
    if chip.change == "scale":
        return Scale(neurons, chip.factor, positions)
    return Fix(neurons, material.means(neurons, asked), positions)


@dataclass(frozen=True)
class Changed:
    """Changes of the rows of a batch.

    Attributes:
        edited: The chips' changes.
        draws: The same with matched random neurons, one entry per draw.
        n_neurons: Neurons changed, each counted once.
        mean_of: Prompts over which means are taken; None where no chip is at its mean.
        marks: What tells a set in use from another of its name: a hash of its neurons.
    """

    edited: list[Intervention]
    draws: list[list[Intervention]]
    n_neurons: int
    mean_of: int | None
    marks: Mapping[str, str]


def changes_of(material: Material, state: State) -> Changed:
    """The changes that a state asks for, none where no chip changes anything.

    The newest ones are kept: a prompt is typed letter by letter, and the draws stay.

    Raises:
        PlayError: There is no other prompt to take a mean over.
        NeuronError: A layer has too few neurons left for a matched draw.
    """
    asked = _left_out(material, state)
    key = ("changes", state.active, state.positions, state.draws, asked)
    return material.kept(key, lambda: _changes(material, state, asked))


def _left_out(material: Material, state: State) -> str:
    """The prompt as the model reads it, where means are taken and it is among their prompts."""
    if not any(chip.change == "mean" for chip in state.active):
        return ""
    asked = asked_text(material, state)
    return asked if any(prompt.text == asked for prompt in material.reference) else ""


def _changes(material: Material, state: State, asked: str) -> Changed:
    chips = [(chip, chip_set(material, chip)) for chip in state.active]
    chips = [(chip, neurons) for chip, neurons in chips if len(neurons)]
    if not chips:
        return Changed([], [], 0, None, {})

    def made(chip: Chip, neurons: NeuronSet) -> Intervention:
        return change_of(material, chip, neurons, state.positions, asked)

    edited = [made(chip, own) for chip, own in chips]
    draws = []
    for seed in range(state.draws):
        drawn = matched_together([own for _, own in chips], seed)
        draws.append([made(chip, one) for (chip, _), one in zip(chips, drawn, strict=True)])
    marks = {chip.set: digest_of([str(one) for one in own]) for chip, own in chips if chip.set}
    n_neurons = len({neuron for _, own in chips for neuron in own})
    at_mean = any(chip.change == "mean" for chip, _ in chips)
    return Changed(
        edited, draws, n_neurons, len(material.mean_prompts(asked)) if at_mean else None, marks
    )


def answer(material: Material, state: State, job: Job) -> dict[str, Any]:
    """Everything that Ask and Edit show.

    Raises:
        BrocaError: Prompt, answer or a chip cannot be used.
        Stopped: Nobody waits for it any more.
    """
    if not state.prompt.strip():
        raise PlayError("there is no prompt", mend="Type one, or choose a fact")
    model = material.model
    text = asked_text(material, state)
    key = ("answer", text, state.answer)
    target = material.kept(key, lambda: chosen_answer(model, text, state.answer))
    job.check()
    made = changes_of(material, state)
    about = _about(material, state, text, made)
    circular = chosen_on(material, state, text)
    rows: list[Sequence[Intervention]] = [[], *([made.edited] if made.edited else []), *made.draws]

    def shown(found: Sequence[Row]) -> dict[str, Any]:
        return {
            **_shown(material, text, target, found),
            "neurons": made.n_neurons,
            "mean_of": made.mean_of,
            "about": about,
            "circular": circular,
        }

    found = answer_rows(
        model,
        text,
        target,
        rows,
        n_tokens=state.tokens,
        between=lambda _: job.check(),
        begun=lambda found: job.part(shown(found)),
        before=material.before,
    )
    return {**shown(found), "marks": made.marks}


def chosen_on(material: Material, state: State, text: str) -> list[str]:
    """Names of the chips that Find has chosen on this very prompt, saved since or not."""
    return [chip.name for chip in state.active if text in _prompts_of(material, chip)]


def _prompts_of(material: Material, chip: Chip) -> list[str]:
    """The prompts that a chip's neurons were found for, as the model read them."""
    if chip.set is not None:
        return list(_prompts_in(material.find_set(chip.set).settings))
    return [chip.origin.prompt] if chip.origin is not None else []


def _prompts_in(settings: Any) -> Iterator[str]:
    """The same, by the settings of a set that was made on the page, maybe of others made there."""
    parts = settings.get("made_of") if isinstance(settings, Mapping) else None
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, Mapping):
            yield str(part.get("prompt", ""))
            yield from _prompts_in(part.get("settings"))


def _shown(
    material: Material, text: str, target: tuple[int, ...], rows: Sequence[Row]
) -> dict[str, Any]:
    """Rows of a batch as the page takes them."""
    model, (clean, *others) = material.model, rows
    measured = target or (clean.said[0].id,)
    return {
        "asked": text,
        "target": "".join(token_text(model, token) for token in measured),
        "chosen": bool(target),
        "clean": _plain(clean),
        "edited": _plain(others[0]) if others else None,
        "draws": [_plain(row) for row in others[1:]],
        "compared": _compared(material, rows) if others else [],
    }


_WORDS = {"off": "switched off", "scale": "times", "mean": "at its mean"}


def _about(material: Material, state: State, text: str, made: Changed) -> dict[str, str]:
    """What an answer is of, by name: what a table of it has to say to be read elsewhere."""
    model = material.model
    changes = (
        f"{chip.name}: {_WORDS[chip.change]}" + (f" {chip.factor!r}" * (chip.change == "scale"))
        for chip in state.active
    )
    found = {
        "model": model.name,
        "weights": model.identity.fingerprint,
        "dtype": material.dtype,
        "prompt": text,
        "changes": "; ".join(changes),
        "positions": state.positions if made.edited else "",
        "mean over prompts": "" if made.mean_of is None else str(made.mean_of),
    }
    return {name: value for name, value in found.items() if value}


def _plain(row: Row) -> dict[str, Any]:
    return {
        "text": row.text,
        "said": [
            {"text": one.text, "p": one.p, "instead": [list(pair) for pair in one.instead]}
            for one in row.said
        ],
        "log_p": row.log_p,
        "rank": row.rank,
    }


def _compared(material: Material, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Likeliest next tokens, clean or edited: P clean, edited, and of every draw."""
    clean, edited, draws = rows[0].next, rows[1].next, [row.next for row in rows[2:]]
    best = torch.maximum(clean, edited)
    ends = torch.cat([one.topk(min(COMPARED, len(one))).indices for one in (clean, edited)])
    listed = sorted(set(ends.tolist()), key=lambda token: -float(best[token]))
    return [
        {
            "token": token_text(material.model, token),
            "clean": float(clean[token]),
            "edited": float(edited[token]),
            "draws": [float(draw[token]) for draw in draws],
        }
        for token in listed
    ]
