"""`broca edit`: a copy of a model with neurons off or scaled, or with a fact replaced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broca.cli.output import say, show
from broca.cli.run import MODEL_HELP, FormOption, Shots, asking_overrides
from broca.errors import EditError

if TYPE_CHECKING:
    from broca.edits import FactEditConfig, FactReplacement
    from broca.model import LanguageModel


def edit(
    save: Annotated[Path, typer.Option(help="New folder of the edited copy.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "atlas",
    fact: Annotated[
        list[str] | None,
        typer.Option(help='"subject | relation | new object"; repeatable.'),
    ] = None,
    facts: Annotated[
        str | None,
        typer.Option(
            help="Facts and wordings of --fact: folder, file, 'lre', 'atlas' or 'auto' (default)."
        ),
    ] = None,
    form: FormOption = None,
    shots: Shots = None,
    off: Annotated[
        list[Path] | None, typer.Option(help="Neuron set to switch off; repeatable.")
    ] = None,
    scale: Annotated[
        list[Path] | None, typer.Option(help="Neuron set to scale; repeatable.")
    ] = None,
    factor: Annotated[
        float | None, typer.Option(help="What --scale multiplies by; 2 by default.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Settings of --fact, such as n_neurons=64; repeatable."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
) -> None:
    """Write an edited copy of a model that plain transformers loads; the original stays."""
    from contextlib import ExitStack

    from broca.edits import edited, save_edited
    from broca.edits.saving import check_folder
    from broca.interventions import Deactivate, Scale
    from broca.neurons import NeuronSet
    from broca.prompts.forms import check_shots

    if not (fact or off or scale):
        raise EditError(
            "there is nothing to edit", mend="Give --fact, --off SET.json or --scale SET.json"
        )
    if not fact:
        named = {"--facts": facts, "--form": form, "--shots": shots, "--set": settings}
        _refuse_unused(named, "--fact")
    if not scale:
        _refuse_unused({"--factor": factor}, "--scale")
    measured = form == "auto"
    config = _config([*asking_overrides(None if measured else form, shots), *(settings or [])])
    check_shots([form or config.form or "question"], config.shots)
    check_folder(save)
    edits: list = [Deactivate(NeuronSet.load(path)) for path in off or []]
    edits += [
        Scale(NeuronSet.load(path), 2.0 if factor is None else factor) for path in scale or []
    ]
    from broca.model import LanguageModel

    loaded = LanguageModel.from_pretrained(model, dtype=dtype)
    if fact and measured:
        config = _with_best_form(loaded, facts or "auto", config)
    found = []
    with ExitStack() as stack:  # each fact is replaced in the model as edited so far
        if edits and fact:
            stack.enter_context(edited(loaded, *edits))
        for text in fact or []:
            done = _replace(loaded, text, facts or "auto", config)
            stack.enter_context(edited(loaded, done.vectors))
            found.append(done)
    edits += [done.vectors for done in found]
    save_edited(loaded, edits, save, note="\n".join(_note(done) for done in found))
    for done in found:
        _draw(done)
    n_neurons = sum(len(each.neurons) for each in edits)
    say(f"{n_neurons} value vectors of {loaded.name} changed; the original is untouched.")
    show(f"Edited copy: {save}")


def _refuse_unused(options: Mapping[str, object], needs: str) -> None:
    for name, value in options.items():
        if value is not None and value != []:
            raise EditError(
                f"{name} is for {needs}, which is not given", mend=f"Give {needs}, or leave it out"
            )


def _config(settings: list[str]) -> FactEditConfig:
    from broca.edits import FactEditConfig
    from broca.recipes import apply_overrides, build_config

    return build_config(FactEditConfig, apply_overrides({}, settings), where="--set")


def _with_best_form(model: LanguageModel, source: str, config: FactEditConfig) -> FactEditConfig:
    from dataclasses import replace

    from broca.facts import load_relations
    from broca.facts.shipped import facts_for
    from broca.run.best_form import find_best_form

    relations = load_relations(facts_for(source, embedded=model.is_embedded))
    form = find_best_form(model, relations, shots=config.shots, seed=config.seed, tell=say)
    return replace(config, form=form)


def _replace(
    model: LanguageModel, text: str, source: str, config: FactEditConfig
) -> FactReplacement:
    from broca.edits import parse_fact, pick_fact, replace_fact
    from broca.facts import load_relations
    from broca.facts.shipped import facts_for

    subject, relation, new_object = parse_fact(text)
    relations = load_relations(facts_for(source, embedded=model.is_embedded))
    fact = pick_fact(relations, subject, relation)
    return replace_fact(model, relations, fact, new_object, config)


def _note(done: FactReplacement) -> str:
    before, after = done.log_p_before.mean(), done.log_p_after.mean()
    return (
        f"Over {len(done.prompts)} paraphrases, the mean log P of {done.new_object!r} for "
        f"{done.fact.subject} went from {before:.2f} to {after:.2f}."
    )


def _draw(done: FactReplacement) -> None:
    from math import exp

    from rich import box
    from rich.table import Table
    from rich.text import Text

    old, new = done.fact.objects[0], done.new_object
    table = Table("paraphrase", box=box.SIMPLE_HEAD)
    for heading in ("P before", "P after"):
        table.add_column(heading, justify="right")
    for prompt, before, after in zip(
        done.prompts, done.log_p_before, done.log_p_after, strict=True
    ):
        row = (f"{exp(x):.4f}" for x in (before, after))
        table.add_row(Text(prompt.text), *row)
    show(f"{done.fact.subject}, {done.fact.relation}: {old} → {new}")
    show(table)
    show(
        f"{len(done.neurons)} value vectors, changed by at most {done.largest_change:.0%} of "
        f"their length, {done.total_change:.0%} together; {done.n_steps} steps"
    )
