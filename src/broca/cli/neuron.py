"""`broca neuron`: what a neuron says, where it fires, and what it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broca.cli.output import say, show
from broca.cli.run import MODEL_HELP, FormOption, Shots

if TYPE_CHECKING:
    from broca.model import LanguageModel
    from broca.neurons import Neuron
    from broca.prompts import Prompt
    from broca.readout import Firing


_EFFECTS = 5  # prompts on which the exact effect is shown
_NODES = 16  # of the attribution beside it: a sharp path of a real model asks for minutes a prompt


def neuron(
    name: Annotated[str, typer.Argument(metavar="NEURON", help="Such as hidden:17:403.")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "atlas",
    run: Annotated[
        Path | None,
        typer.Option(help="Run folder, or what `find relations` wrote: its prompts and sets."),
    ] = None,
    facts: Annotated[str | None, typer.Option(help="Facts to read, instead of a run's.")] = None,
    questions: Annotated[str | None, typer.Option(help="Questions to read, likewise.")] = None,
    form: FormOption = None,
    shots: Shots = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Draws wordings, demonstrations and prompts; 0 by default.", min=0),
    ] = None,
    prompts: Annotated[int, typer.Option(help="Prompts to read, at most.", min=1)] = 600,
    top: Annotated[int, typer.Option(help="Tokens and prompts to show.", min=1)] = 8,
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
) -> None:
    """Show a neuron's tokens, the prompts where it is strongest, and what it serves."""
    from broca.model import LanguageModel
    from broca.model.loading import usual_place
    from broca.neurons import Neuron
    from broca.prompts.forms import SHOTS, check_form, check_shots
    from broca.readout import check_neuron, find_firings

    wanted = Neuron.parse(name)
    asks = {"--form": form, "--shots": shots, "--seed": seed}
    named = [option for option, value in asks.items() if value is not None]
    if form not in (None, "auto"):
        check_form(form)
    if run is not None and facts is None and questions is None:
        _refuse_unread(named, "the prompts of --run are read as they were asked")
    if facts or questions:
        check_shots([form or "question"], shots)
    loaded = LanguageModel.from_pretrained(model, dtype=dtype, device_map=usual_place(model))
    check_neuron(loaded, wanted)
    if not (facts or questions or run or loaded.is_embedded):
        _refuse_unread(named, "nothing is asked without --facts or --questions")
    check_shots([form or "question"], shots)
    asking = {
        "form": form or "question",
        "shots": shots or SHOTS,
        "chat": loaded.chat,
        "seed": seed or 0,
    }
    material = _material(loaded, run, facts, questions, prompts, asking)
    _draw_tokens(loaded, wanted, top)
    if material:
        firings = find_firings(loaded, wanted, material)
        _draw_firings(firings, top)
        _draw_means(firings, top)
        _draw_effects(loaded, wanted, firings)
    else:
        say("Give --facts, --questions or the --run of a study to see where it fires.")
    if run is not None:
        _draw_served(loaded, wanted, run)


# ---- what it reads


def _refuse_unread(options: Sequence[str], why: str) -> None:
    from broca.errors import PromptError

    if options:
        raise PromptError(
            f"{options[0]} would be without effect: {why}",
            mend="Give --facts or --questions to ask, or leave it out",
        )


def _material(
    model: LanguageModel,
    run: Path | None,
    facts: str | None,
    questions: str | None,
    limit: int,
    asking: Mapping[str, Any],
) -> list[Prompt]:
    """Prompts of the source asked for, a sample of them by seed; atlas has facts of its own."""
    from broca.facts import load_relations
    from broca.facts.seeding import stable_random
    from broca.facts.shipped import facts_for
    from broca.prompts import render_fact_prompts, render_question_prompts
    from broca.questions import load_questions
    from broca.run.best_form import find_best_form
    from broca.run.served import run_prompts
    from broca.store import reads_as_run

    found: list[Prompt] = []
    if facts is None and questions is None and run is None and model.is_embedded:
        facts = "atlas"
    if facts is not None:
        relations = load_relations(facts_for(facts, embedded=model.is_embedded))
        if asking["form"] == "auto":
            form = find_best_form(
                model, relations, shots=asking["shots"], seed=asking["seed"], tell=say
            )
            asking = {**asking, "form": form}
        found += render_fact_prompts(relations, **asking)
    if questions is not None:
        found += render_question_prompts(load_questions(questions), n_prompts=1, **asking)
    if not found and run is not None and reads_as_run(run):
        found = run_prompts(run)
    return stable_random(asking["seed"], "neuron").sample(found, min(limit, len(found)))


# ---- tables


def _table(*headings: str, numbers: Sequence[str] = ()):
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left")
    return table


def _draw_tokens(model: LanguageModel, wanted: Neuron, top: int) -> None:
    from rich.text import Text

    from broca.readout import read_values

    if wanted.site not in ("hidden", "gate", "up"):
        say(f"Neurons of site {wanted.site} have no value vector, hence no tokens.")
        return
    read = read_values(model, [wanted], n_tokens=top)[0]
    table = _table("raises", "by", "lowers", "by ", numbers=("by", "by "))
    for one, other in zip(read.top, read.bottom, strict=True):
        cells = (repr(one.token), f"{one.score:.2f}", repr(other.token), f"{other.score:.2f}")
        table.add_row(*(Text(cell) for cell in cells))
    unit = "" if wanted.site == "hidden" else f" (the unit's value vector, hidden:{wanted.layer}:"
    unit += "" if wanted.site == "hidden" else f"{wanted.index})"
    show(f"{wanted} of {model.name}{unit}: value vector {read.length:.2f} × the layer's mean")
    show(table)


def _draw_firings(firings: Sequence[Firing], top: int) -> None:
    from rich.text import Text

    table = _table("value", "strongest in", "relation", numbers=("value",))
    for firing in firings[:top]:
        text = Text()
        for place, token in enumerate(firing.tokens):
            text.append(
                token.replace("\n", "↵"), style="bold reverse" if place == firing.position else ""
            )
        text.append(f"   at {firing.token!r}")
        about = " · ".join(filter(None, (firing.prompt.relation, firing.prompt.field)))
        table.add_row(f"{firing.value:.3g}", text, Text(about))
    show(f"Where it is strongest, of {len(firings)} prompts:")
    show(table)


def _draw_means(firings: Sequence[Firing], top: int) -> None:
    """Which relations and fields make it fire most, by the mean magnitude over their prompts."""
    from broca.run.served import mean_values

    for kind in ("relation", "field"):
        rows = mean_values(firings, kind)
        if len(rows) < 2:
            continue
        table = _table(kind, "mean |value|", "mean", "prompts", numbers=("mean |value|", "mean"))
        for row in rows[:top]:
            table.add_row(row.group, f"{row.size:.3g}", f"{row.mean:.3g}", str(row.count))
        show(table)


def _draw_effects(model: LanguageModel, wanted: Neuron, firings: Sequence[Firing]) -> None:
    """What the answer loses without the neuron, beside what it is attributed."""
    from rich.text import Text

    from broca.attributions import attribute_answer_tokens
    from broca.effects import ablate_one
    from broca.errors import AttributionError, EffectError

    if wanted.site != "hidden":
        return
    prompts = [firing.prompt for firing in firings if firing.prompt.answers][:_EFFECTS]
    table = _table(
        "loses", "attributed", "log P", "answer of", numbers=("loses", "attributed", "log P")
    )
    try:
        attributed = attribute_answer_tokens(
            model, prompts, method="gauss-legendre", n_steps=_NODES
        )
        for prompt, given in zip(prompts, attributed, strict=True):
            loss, before = ablate_one(model, prompt, wanted.layer, wanted.index)
            share = float(given.values[wanted.layer, wanted.index])
            cells = (f"{loss:+.4f}", f"{share:+.4f}", f"{before:.3f}")
            # demonstrations stand in full where the neuron is strongest
            asked = f"… {prompt.last_line}" if prompt.shown else prompt.text
            table.add_row(*cells, Text(f"{asked} {prompt.answers[0]}"))
    except (EffectError, AttributionError) as error:
        say(f"Its exact effect cannot be measured: {error}")
        return
    if prompts:
        show(
            "What log P of the answer loses without it at the last position, what integrated "
            f"gradients attribute to it ({_NODES} nodes), and log P as it is:"
        )
        show(table)


def _draw_served(model: LanguageModel, wanted: Neuron, run: Path) -> None:
    from broca.run.served import served_queries, served_sets
    from broca.store import reads_as_run

    served = served_sets(model, wanted, run)
    queries = served_queries(model, wanted, run) if reads_as_run(run) else {}
    if not served and not queries:
        show(f"None of the sets of {run} holds it.")
        return
    if served:
        table = _table("set", "as", "rank", "of", "score", numbers=("rank", "of", "score"))
        for one in served:
            cells = (one.name, one.site, str(one.rank), str(one.size), f"{one.score:.3f}")
            table.add_row(*cells)
        show(f"Sets of {run} that hold it:")
        show(table)
    for kind, groups in queries.items():
        table = _table(kind, "holding it", "of", numbers=("holding it", "of"))
        for group, (holding, total) in sorted(groups.items(), key=lambda item: -item[1][0]):
            table.add_row(group, str(holding), str(total))
        show(table)
