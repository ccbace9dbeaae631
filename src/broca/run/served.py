"""What a neuron serves: the sets and queries of a run that hold it, the prompts it fires in."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from broca.errors import BrocaError, NeuronError, ScoreError
from broca.model import LanguageModel
from broca.neurons import ModelIdentity, Neuron, NeuronSet, WeightsDifferWarning
from broca.prompts import Prompt
from broca.readout import Firing
from broca.scores import QuerySets
from broca.store import RunFolder, set_files

UNIT = ("gate", "up", "hidden")
"""Sites of one gated unit."""


@dataclass(frozen=True)
class Served:
    """One set of a run that holds a neuron, or another site of its unit.

    Attributes:
        name: The set's name.
        site: The site at which it holds the unit.
        rank: The neuron's rank in it, from 1.
        size: Neurons of the set.
        score: The neuron's score in it.
    """

    name: str
    site: str
    rank: int
    size: int
    score: float


@dataclass(frozen=True)
class MeanValue:
    """How strong a neuron is in the prompts of one relation or field.

    Attributes:
        group: The relation or field.
        size: Mean magnitude of its strongest value in each prompt.
        mean: Mean of the same with its sign.
        count: Prompts.
    """

    group: str
    size: float
    mean: float
    count: int


def run_prompts(run: Path) -> list[Prompt]:
    """The prompts that a run has stored.

    Raises:
        RunError: There is no run, or its prompts cannot be read.
    """
    kept = ("text", "subject", "relation", "language", "template", "fact", "field", "role", "form")
    return [
        Prompt(id=key, answers=tuple(plain["answers"]), **{k: plain[k] for k in kept if k in plain})
        for key, plain in RunFolder.open(run).prompts().items()
    ]


def mean_values(firings: Sequence[Firing], kind: str) -> list[MeanValue]:
    """Which relations (or fields: `kind`) make a neuron fire most, the strongest first."""
    groups: dict[str, list[float]] = defaultdict(list)
    for firing in firings:
        if getattr(firing.prompt, kind):
            groups[getattr(firing.prompt, kind)].append(firing.value)
    rows = [
        MeanValue(group, sum(map(abs, found)) / len(found), sum(found) / len(found), len(found))
        for group, found in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.size, row.group))


def same_unit(one: Neuron, other: Neuron) -> bool:
    """Whether two neurons are one, or sites of one gated unit."""
    if one.site in UNIT and other.site in UNIT:
        return (one.layer, one.index) == (other.layer, other.index)
    return one == other


def served_sets(model: LanguageModel, wanted: Neuron, run: Path) -> list[Served]:
    """The sets of a run, folder or file that hold a neuron, by its relative rank.

    Raises:
        NeuronError: A set is damaged, or of a model of another shape.

    Warns:
        WeightsDifferWarning: A set was found in other weights of the same shape.
    """
    found = []
    for name, path in set_files(run).items():
        neurons = NeuronSet.load(path)
        check_model(neurons.identity, model, path)
        found += holding(wanted, name, neurons)
    return sorted(found, key=lambda s: (s.rank / s.size, s.name))


def holding(wanted: Neuron, name: str, neurons: NeuronSet) -> list[Served]:
    """The places at which one set holds a neuron's unit; random sets serve nothing."""
    if "random" in neurons.method:
        return []
    return [
        Served(name, each.site, rank + 1, len(neurons), float(neurons.scores[rank]))
        for rank, each in enumerate(neurons)
        if same_unit(wanted, each)
    ]


def check_model(identity: ModelIdentity, model: LanguageModel, path: Path) -> None:
    """Refuse sets of a model of another shape, warn of those of other weights.

    Raises:
        NeuronError: The shape differs.

    Warns:
        WeightsDifferWarning: Only the weights do.
    """
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


def query_sets(model: LanguageModel, path: Path) -> QuerySets | None:
    """The query sets of a file, None where it is another table.

    Raises:
        NeuronError: They were found in a model of another shape.
        ScoreError: The file is damaged.

    Warns:
        WeightsDifferWarning: They were found in other weights of the same shape.
    """
    if not _may_hold_query_sets(path):
        return None
    try:
        sets = QuerySets.load(path)
    except BrocaError as error:
        raise ScoreError("Damaged query sets", str(path), "Run the study again.") from error
    check_model(sets.identity, model, path)
    return sets


def _may_hold_query_sets(path: Path) -> bool:
    """Whether a table says that it holds query sets, or cannot be read at all."""
    try:
        return b"broca.query-sets" in (pq.read_schema(path).metadata or {}).get(b"broca", b"")
    except (OSError, pa.ArrowException):
        return True


def query_tables(run: Path) -> list[Path]:
    """Files of a run that may hold query sets."""
    folder = RunFolder.open(run).path
    return sorted([*folder.glob("*.parquet"), *folder.glob("sets/*.parquet")])


def served_queries(
    model: LanguageModel, wanted: Neuron, run: Path
) -> dict[str, dict[str, tuple[int, int]]]:
    """Queries whose NA-ICA neurons hold it, and queries in all: by field, relation, language.

    Raises:
        NeuronError: Query sets are of a model of another shape.
        ScoreError: A file of them is damaged.
    """
    asked = {prompt["fact"]: prompt for prompt in RunFolder.open(run).prompts().values()}
    counts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for path in query_tables(run):
        sets = query_sets(model, path)
        if sets is None or "na-ica" not in sets.methods:
            continue
        kinds = ("language",) if path.stem == "languages" else ("field", "relation")
        for query in sets.queries:
            held = any(same_unit(wanted, each) for each in sets.neurons(query))
            for kind in kinds:
                group = asked.get(query, {}).get(kind) or "?"
                count = counts[f"queries by {kind}"][group]
                count[0], count[1] = count[0] + held, count[1] + 1
    held_by = {
        kind: {group: (held, total) for group, (held, total) in groups.items() if held}
        for kind, groups in counts.items()
    }
    return {kind: groups for kind, groups in held_by.items() if groups and list(groups) != ["?"]}
