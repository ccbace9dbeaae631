"""`broca neuron`: what a neuron says, where it fires, and what it serves."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broca.cli.output import say, show
from broca.cli.run import FormOption, Shots
from broca.errors import BrocaError

if TYPE_CHECKING:
    from broca.model import LanguageModel
    from broca.neurons import ModelIdentity, Neuron
    from broca.prompts import Prompt
    from broca.readout import Firing
    from broca.scores import QuerySets


_EFFECTS = 5  # prompts on which the exact effect is shown


def neuron(
    name: Annotated[str, typer.Argument(metavar="NEURON", help="Such as hidden:17:403.")],
    model: Annotated[str, typer.Option(help="Hub name, folder, .gguf file, or 'atlas'.")] = "atlas",
    run: Annotated[
        Path | None,
        typer.Option(help="Run folder, or what `find relations` wrote: its prompts and sets."),
    ] = None,
    facts: Annotated[str | None, typer.Option(help="Facts to read, instead of a run's.")] = None,
    questions: Annotated[str | None, typer.Option(help="Questions to read, likewise.")] = None,
    form: FormOption = None,
    shots: Shots = None,
    prompts: Annotated[int, typer.Option(help="Prompts to read, at most.", min=1)] = 600,
    top: Annotated[int, typer.Option(help="Tokens and prompts to show.", min=1)] = 8,
    dtype: Annotated[str, typer.Option(help="As in transformers.")] = "auto",
) -> None:
    """Show a neuron's tokens, the prompts where it is strongest, and what it serves."""
    from broca.model import LanguageModel
    from broca.neurons import Neuron
    from broca.readout import check_neuron, find_firings

    wanted = Neuron.parse(name)
    loaded = LanguageModel.from_pretrained(model, dtype=dtype)
    check_neuron(loaded, wanted)
    asking = {"form": form or "question", "shots": shots or 4, "chat": loaded.chat}
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

    found: list[Prompt] = []
    if facts is None and questions is None and run is None and model.is_embedded:
        facts = "atlas"
    if facts is not None:
        source = facts_for(facts, embedded=model.is_embedded)
        found += render_fact_prompts(load_relations(source), **asking)
    if questions is not None:
        found += render_question_prompts(load_questions(questions), n_prompts=1, **asking)
    if not found and run is not None and is_run(run):
        found = _prompts_of(run)
    return stable_random(0, "neuron").sample(found, min(limit, len(found)))


def is_run(path: Path) -> bool:
    """Whether a path is to be read as a run folder; else it holds neuron sets alone."""
    from broca.store.folder import CONFIG

    if (path / CONFIG).exists():
        return True
    return not (path.is_file() or any(path.glob("**/*.json")))


def set_files(run: Path) -> dict[str, Path]:
    """Neuron sets by name: of a run, of a folder that `find relations` wrote, or one file."""
    from broca.store import RunFolder
    from broca.store.names import name_of

    if is_run(run):
        folder = RunFolder.open(run)
        return {name: folder.set_path(name) for name in folder.set_names()}
    if run.is_file():
        return {name_of(Path(run.name), ".json"): run}
    found = (path for path in run.rglob("*.json") if not path.name.startswith("."))
    return {name_of(path.relative_to(run), ".json"): path for path in sorted(found)}


def _prompts_of(run: Path) -> list[Prompt]:
    from broca.prompts import Prompt
    from broca.store import RunFolder

    kept = ("text", "subject", "relation", "language", "template", "fact", "field", "role")
    return [
        Prompt(id=key, answers=tuple(plain["answers"]), **{k: plain[k] for k in kept})
        for key, plain in RunFolder.open(run).prompts().items()
    ]


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
    for kind in ("relation", "field"):
        groups: dict[str, list[float]] = defaultdict(list)
        for firing in firings:
            if getattr(firing.prompt, kind):
                groups[getattr(firing.prompt, kind)].append(firing.value)
        if len(groups) < 2:
            continue
        table = _table(kind, "mean |value|", "mean", "prompts", numbers=("mean |value|", "mean"))
        rows = [(sum(map(abs, v)) / len(v), sum(v) / len(v), len(v), g) for g, v in groups.items()]
        for size, mean, count, group in sorted(rows, reverse=True)[:top]:
            table.add_row(group, f"{size:.3g}", f"{mean:.3g}", str(count))
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
        attributed = attribute_answer_tokens(model, prompts)
        for prompt, given in zip(prompts, attributed, strict=True):
            loss, before = ablate_one(model, prompt, wanted.layer, wanted.index)
            share = float(given.values[wanted.layer, wanted.index])
            cells = (f"{loss:+.4f}", f"{share:+.4f}", f"{before:.3f}")
            table.add_row(*cells, Text(f"{prompt.text} {prompt.answers[0]}"))
    except (EffectError, AttributionError) as error:
        say(f"Its exact effect cannot be measured: {error}")
        return
    if prompts:
        show(
            "What log P of the answer loses without it at the last position, and its integrated "
            "gradient:"
        )
        show(table)


@dataclass(frozen=True)
class _Served:
    """One set of a run that holds the neuron, or another site of its unit."""

    name: str
    site: str
    rank: int
    size: int
    score: float


def _draw_served(model: LanguageModel, wanted: Neuron, run: Path) -> None:
    served = sorted(_served_sets(model, wanted, run), key=lambda s: (s.rank / s.size, s.name))
    queries = _served_queries(model, wanted, run) if is_run(run) else {}
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


_UNIT = ("gate", "up", "hidden")


def _same_unit(wanted: Neuron, other: Neuron) -> bool:
    if wanted.site in _UNIT and other.site in _UNIT:
        return (wanted.layer, wanted.index) == (other.layer, other.index)
    return wanted == other


def _served_sets(model: LanguageModel, wanted: Neuron, run: Path) -> list[_Served]:
    from broca.neurons import NeuronSet

    found = []
    for name, path in set_files(run).items():
        neurons = NeuronSet.load(path)
        _check_model(neurons.identity, model, path)
        if "random" in neurons.method:
            continue
        for rank, each in enumerate(neurons):
            if _same_unit(wanted, each):
                score = float(neurons.scores[rank])
                found.append(_Served(name, each.site, rank + 1, len(neurons), score))
    return found


def _query_sets(model: LanguageModel, path: Path) -> QuerySets | None:
    """The query sets of a file, None where it is another table.

    Raises:
        NeuronError: They were found in a model of another shape.
        ScoreError: The file is damaged.

    Warns:
        WeightsDifferWarning: They were found in other weights of the same shape.
    """
    from broca.errors import ScoreError
    from broca.scores import QuerySets

    if not _may_hold_query_sets(path):
        return None
    try:
        sets = QuerySets.load(path)
    except BrocaError as error:
        raise ScoreError("Damaged query sets", str(path), "Run the study again.") from error
    _check_model(sets.identity, model, path)
    return sets


def _may_hold_query_sets(path: Path) -> bool:
    """Whether a table says that it holds query sets, or cannot be read at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return b"broca.query-sets" in (pq.read_schema(path).metadata or {}).get(b"broca", b"")
    except (OSError, pa.ArrowException):
        return True


def _check_model(identity: ModelIdentity, model: LanguageModel, path: Path) -> None:
    """Refuse sets of a model of another shape, warn of those of other weights."""
    from broca.errors import NeuronError
    from broca.neurons import WeightsDifferWarning

    if identity.shape != model.identity.shape:
        raise NeuronError(
            f"The run studied {identity.id}, a model of another shape than {model.identity.id}",
            str(path),
            f"Pass --model {identity.id}.",
        )
    if identity.fingerprint != model.identity.fingerprint:
        warnings.warn(
            f"what {path} holds was found in other weights ({identity.id}) than those that are "
            f"shown ({model.identity.id})",
            WeightsDifferWarning,
            stacklevel=2,
        )


def _served_queries(
    model: LanguageModel, wanted: Neuron, run: Path
) -> dict[str, dict[str, tuple[int, int]]]:
    """Queries whose NA-ICA neurons hold it, and queries in all: by field, relation, language."""
    from broca.store import RunFolder

    folder = RunFolder.open(run)
    asked = {prompt["fact"]: prompt for prompt in folder.prompts().values()}
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for path in sorted([*folder.path.glob("*.parquet"), *folder.path.glob("sets/*.parquet")]):
        sets = _query_sets(model, path)
        if sets is None or "na-ica" not in sets.methods:
            continue
        kinds = ("language",) if path.stem == "languages" else ("field", "relation")
        for query in sets.queries:
            held = any(_same_unit(wanted, each) for each in sets.neurons(query))
            for kind in kinds:
                group = asked.get(query, {}).get(kind) or "?"
                count = counts[f"queries by {kind}"][group]
                count[0], count[1] = count[0] + held, count[1] + 1
    held_by = {
        kind: {group: (held, total) for group, (held, total) in groups.items() if held}
        for kind, groups in counts.items()
    }
    return {kind: groups for kind, groups in held_by.items() if groups and list(groups) != ["?"]}
