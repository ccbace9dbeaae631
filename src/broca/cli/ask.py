"""`broca ask`: one prompt, answered; with neurons switched off or scaled beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broca.cli.output import say, show
from broca.cli.run import MODEL_HELP

if TYPE_CHECKING:
    from broca.interventions import Intervention
    from broca.interventions.kinds import Positions
    from broca.model import LanguageModel
    from broca.neurons import Neuron, NeuronSet


def ask(
    prompt: Annotated[str, typer.Argument(help="The text the model goes on with.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "atlas",
    off: Annotated[
        list[str] | None,
        typer.Option(help="Neuron set to switch off, or hidden:3:17,up:4:2; repeatable."),
    ] = None,
    scale: Annotated[
        list[str] | None, typer.Option(help="Neuron set to scale, or neurons; repeatable.")
    ] = None,
    factor: Annotated[
        float | None, typer.Option(help="What --scale multiplies by; 2 by default.")
    ] = None,
    positions: Annotated[
        str | None,
        typer.Option(
            help="Where: 'all' positions (default), the prompt's 'last', 'answer', or counted from "
            "the prompt's end: -1,-2."
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            help="How the prompt is put: 'cloze' (as it stands), 'question', 'few-shot', 'chat', "
            "or a text with {wording}."
        ),
    ] = "cloze",
    shot: Annotated[
        list[str] | None,
        typer.Option(help="A line shown before it, with its answer; repeatable, for 'few-shot'."),
    ] = None,
    top: Annotated[int, typer.Option(help="Next tokens to show.", min=1)] = 5,
    tokens: Annotated[int, typer.Option(help="Tokens of the answer at most.", min=1)] = 12,
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
) -> None:
    """Answer a prompt, untouched and with neurons off or scaled, a line each."""
    from broca.interventions import Deactivate, Scale
    from broca.neurons import NeuronSet
    from broca.prompts import put_own
    from broca.prompts.own import check_own

    check_own(form, shot or [])
    _refuse_unread(off, scale, factor, positions)
    factor, where = 2.0 if factor is None else factor, _places(positions or "all")
    read = {text: _read_set(text) for text in [*(off or []), *(scale or [])]}
    from broca.model import LanguageModel
    from broca.model.loading import usual_place

    loaded = LanguageModel.from_pretrained(model, dtype=dtype, device_map=usual_place(model))
    sets = {
        text: found if isinstance(found, NeuronSet) else NeuronSet.of(found, loaded.identity)
        for text, found in read.items()
    }
    switched = [(_called(text), sets[text]) for text in off or []]
    scaled = [(_called(text), sets[text]) for text in scale or []]
    changes: list[Intervention] = [Deactivate(neurons, where) for _, neurons in switched]
    changes += [Scale(neurons, factor, where) for _, neurons in scaled]
    for _, neurons in [*switched, *scaled]:
        neurons.check(loaded.identity)
    text = put_own(prompt, form, shot or [], loaded.chat)
    show(f"Asked: {text}")
    lines = {"untouched": _look(loaded, text, top, tokens)}
    if changes:
        names = [f"{name} off" for name, _ in switched]
        names += [f"{name} × {factor:g}" for name, _ in scaled]
        lines[" and ".join(names)] = _look(loaded, text, top, tokens, changes)
    _draw(lines)
    if changes:
        n_neurons = sum(len(neurons) for _, neurons in [*switched, *scaled])
        say(f"{n_neurons:,} neurons of {loaded.name} changed.")


def _refuse_unread(
    off: list[str] | None, scale: list[str] | None, factor: float | None, positions: str | None
) -> None:
    from broca.errors import InterventionError

    for name, value, needs, given in (
        ("--factor", factor, "--scale", scale),
        ("--positions", positions, "--off or --scale", off or scale),
    ):
        if value is not None and not given:
            raise InterventionError(
                f"{name} is for {needs}, which is not given", mend=f"Give {needs}, or leave it out"
            )


def _places(text: str) -> Positions:
    """Positions as typed: a word, or numbers counted from the prompt's end."""
    numbers = re.fullmatch(r"-\d+(,-\d+)*", text)
    return tuple(map(int, text.split(","))) if numbers else text


def _read_set(text: str) -> NeuronSet | list[Neuron]:
    """A neuron set of a file, or neurons named one by one.

    Raises:
        NeuronError: The file is no neuron set.
    """
    from broca.errors import NeuronError
    from broca.neurons import Neuron, NeuronSet

    try:
        return [Neuron.parse(part) for part in text.split(",")]
    except NeuronError:
        return NeuronSet.load(Path(text))


def _called(text: str) -> str:
    return Path(text).name if Path(text).suffix else text


@dataclass(frozen=True)
class _Answer:
    """What was said: the greedy text, and the most probable next tokens with P."""

    text: str
    next: list[tuple[str, float]]


def _look(
    model: LanguageModel,
    prompt: str,
    top: int,
    tokens: int,
    changes: Sequence[Intervention] = (),
) -> _Answer:
    from broca.readout import token_text

    with _changed(model, changes):
        probabilities = model.probabilities([prompt])[0]
    best = probabilities.topk(min(top, len(probabilities)))
    listed = [
        (token_text(model, token), p)
        for token, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return _Answer(_go_on(model, prompt, tokens, changes), listed)


def _changed(
    model: LanguageModel, changes: Sequence[Intervention], after_prompt: int = 0
) -> AbstractContextManager[None]:
    """The changes, of which there may be none."""
    from broca.interventions import intervene

    return intervene(model, *changes, after_prompt=after_prompt) if changes else nullcontext()


def _go_on(
    model: LanguageModel, prompt: str, n_tokens: int, changes: Sequence[Intervention] = ()
) -> str:
    """The greedy continuation up to the end of its first line that says something."""
    from broca.answers import has_ended, said_line

    ids, said = model.encode([prompt])[0], ""
    start = len(ids)
    while len(ids) < start + n_tokens and model.fits(ids):
        # the prompt's end stays where it is while the answer grows behind it
        with _changed(model, changes, after_prompt=len(ids) - start):
            token = int(model.logits(model.pad([ids]))[0, -1].argmax())
        ids = [*ids, token]
        said = model.tokenizer.decode(ids[start:], skip_special_tokens=True)
        if token in model.end_tokens or has_ended(said):
            break
    return said_line(said)


def _draw(lines: dict[str, _Answer]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table("", "answer", "next token and its P", box=box.SIMPLE_HEAD)
    for name, answer in lines.items():
        tokens = " · ".join(f"{token!r} {p:.3f}" for token, p in answer.next)
        table.add_row(Text(name), Text(answer.text or "(nothing)"), Text(tokens))
    show(table)
