"""What a run would compute, without computing it: conditions, prompts, time, memory.

1. The studies lay out their plans at a bench that measures nothing (`broca.run.dry_bench`).
2. A few of the prompts are really answered and recorded; in query studies really asked, under
   several edits, and really attributed: a few seconds for each kind of work
   (`broca.run.timing`). Seconds per prompt times the number of prompts is the time; how far it may
   be off is told by how much the rate still moved.

What is not in the estimate: loading the model, statistics and the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from broca.attributions.memory import default_rows, row_bytes
from broca.attributions.precision import extra_bytes, width_of
from broca.choices import (
    ChoiceTask,
    Letters,
    Words,
    WordTask,
    find_letters,
    find_words,
    measure_choices,
    measure_words,
)
from broca.engines import EngineSettings
from broca.interventions import Deactivate, Scale
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, uniform_random
from broca.processes import usable_cores
from broca.prompts import Prompt
from broca.responses import record_responses
from broca.run.dry_bench import DryBench, DryChoiceBench, Estimate
from broca.run.job import Job
from broca.run.timing import Rate, rate_of, spread
from broca.studies import load_family
from broca.studies.locators import Material
from broca.studies.locators.judging import judge
from broca.studies.queries.attributing import Asked, Attributing, Portion
from broca.studies.queries.config import QueriesConfig

SAMPLE = 64  # prompts answered, recorded and asked for their letters to take the time
MOST_EDITS = 16  # of a prompt side by side, to take their time
SECONDS_PER_SCORE = 80e-6 / 12 / 1500  # of a neuron, a labelling and a prompt (METHODS §5)
SCORING_BYTES = 64 << 20
ROW_BYTES = 40  # on disk
QUERY_BYTES = 4 << 10  # on disk, the attributions of a query


@dataclass
class DryRun:
    """What a whole run would need.

    Attributes:
        studies: Study by study, preparations among them.
        seconds: Estimated time.
        weight_bytes: Of the weights, in each process that computes.
        held_bytes: What scoring or attributing holds at a time beside them: rows, and what weights
            in half precision take more while they are widened.
        disk_bytes: Recorded responses, attributions and rows.
        pairs: Distinct pairs of intervention and prompt.
        parts: What the time is made of: what is done -> seconds.
        unsure: Seconds by which these may be wrong.
        words: How facts would be asked.
        doubts: What no run with these settings can show.
        workers: How many processes share the work, each as fast as this one was when it was
            timed.
    """

    studies: list[Estimate] = field(default_factory=list)
    weight_bytes: int = 0
    held_bytes: int = 0
    disk_bytes: int = 0
    pairs: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    unsure: float = 0.0
    words: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    workers: int = 1

    @property
    def seconds(self) -> float:
        """Estimated time."""
        return sum(self.parts.values()) / self.workers

    @property
    def memory_bytes(self) -> int:
        """Of one process that computes."""
        return self.weight_bytes + self.held_bytes

    @property
    def total_memory_bytes(self) -> int:
        """Of all workers; a driver beside them holds no weights."""
        return self.workers * self.memory_bytes

    @property
    def evaluations(self) -> int:
        """Prompt evaluations of all studies."""
        return sum(study.evaluations for study in self.studies)

    @property
    def recorded(self) -> int:
        """Prompts recorded by all studies."""
        return sum(study.recorded for study in self.studies)

    @property
    def attributed(self) -> int:
        """Prompts attributed by all studies."""
        return sum(study.attributed for study in self.studies)

    @property
    def off(self) -> float:
        """Share of the time by which the estimate may be wrong, as measured."""
        spent = sum(self.parts.values())
        return self.unsure / spent if spent else 0.0

    def spend(self, what: str, n: float, each: Rate) -> None:
        """Add a number of things that are done."""
        if n and each.seconds:
            self.parts[what] = self.parts.get(what, 0.0) + n * each.seconds
            self.unsure += n * each.seconds * each.off


def dry_run(job: Job, model: LanguageModel | None = None) -> DryRun:
    """Count what a job would compute, and estimate its time and memory.

    Args:
        job: What would be run.
        model: A loaded model in place of the one the job names.

    Raises:
        BrocaError: Whatever is wrong with model, facts, questions or settings.
    """
    job.check(embedded=None if model is None else model.is_embedded)
    model = model or job.model.load()
    found = DryRun(workers=_n_workers(job.engine))
    with _threads_of_a_worker(job.engine):
        _estimate(found, job, model)
    found.weight_bytes = sum(p.numel() * p.element_size() for p in model.module.parameters())
    return found


def _n_workers(engine: EngineSettings) -> int:
    """Workers of a run, as far as that can be told without its cluster: on this machine.

    Where it is another one's and no number is given, the estimate is that of one.
    """
    if engine.kind == "local" or (engine.workers is None and engine.address is not None):
        return 1
    return engine.workers or max(1, usable_cores() // engine.threads)


@contextmanager
def _threads_of_a_worker(engine: EngineSettings) -> Iterator[None]:
    """Compute as slowly as a worker does, where it has fewer threads than this process."""
    before = torch.get_num_threads()
    if engine.kind == "ray":
        torch.set_num_threads(engine.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _estimate(found: DryRun, job: Job, model: LanguageModel) -> None:
    """Add what the studies of a job need."""
    for name, settings in job.settings.items():
        family = load_family(name)
        found.doubts += settings.doubts() if hasattr(settings, "doubts") else []
        make = DryChoiceBench if name == "queries" else DryBench
        bench = make(model, getattr(settings, "batch_size", 64))
        material = family.prepare(settings, bench)
        introduced = family.introduce(material)
        found.words += [text for part in introduced.values() for text in part.words]
        for study in job.studies_of(name):
            bench.measure(study.name, study.plan(material, bench))
        if isinstance(bench, DryChoiceBench):
            found.words += material.told()
        found.studies += bench.studies
        found.pairs += len(bench.needed)
        found.disk_bytes += 4 * bench.recorded_values
        found.disk_bytes += ROW_BYTES * bench.evaluations
        if name == "locators":
            found.held_bytes = max(
                found.held_bytes, _estimate_locators(found, model, bench, material)
            )
        elif isinstance(bench, DryChoiceBench):
            held = _estimate_queries(found, model, bench, settings)
            found.held_bytes = max(found.held_bytes, held)
        else:
            found.held_bytes = max(found.held_bytes, _estimate_relations(found, model, bench))


def _estimate_locators(
    found: DryRun, model: LanguageModel, bench: DryBench, material: Material
) -> int:
    """Add the time of locator studies, that of one prompt, really judged; the bytes they hold."""
    located = sum(study.located for study in bench.studies)
    if located:
        each = rate_of(lambda _: judge(model, material, 0), [0])
        found.spend("judging locators", located, each)
    return extra_bytes(model.module, torch.float32)


def _estimate_relations(found: DryRun, model: LanguageModel, bench: DryBench) -> int:
    """Add the time of relation studies; the bytes that scoring holds."""
    sample = spread([prompt for prompt in bench.asked.values() if prompt.answers], SAMPLE)
    found.spend("answering", bench.evaluations, _answering(model, sample))
    _estimate_recording(found, model, bench, sample)
    found.spend("scoring", bench.scored, Rate(SECONDS_PER_SCORE))
    return SCORING_BYTES


def _estimate_queries(
    found: DryRun, model: LanguageModel, bench: DryChoiceBench, config: QueriesConfig
) -> int:
    """Add the time of query studies; the bytes that attributing holds."""
    letters, words = bench.letters, bench.words
    sample: list[Prompt] = [one.prompt for one in spread(letters, SAMPLE)]
    choices = [one.prompt for one in spread(letters, SAMPLE)]
    each = rate_of(lambda some: list(find_letters(model, some, variant=config.letter)), choices)
    found.spend("finding letters", len(letters), each)
    in_words = [one.prompt for one in spread(words, SAMPLE)]
    each = rate_of(lambda some: list(find_words(model, some)), in_words)
    found.spend("asking in words", len(words), each)
    asked = [one for one in (*letters, *words) if one.prompt.id in bench.asked]
    for kind, listed in _by_kind(asked):
        evaluations = bench.evaluations * len(listed) // len(asked)
        n_edits = min(MOST_EDITS, max(1, evaluations // len(listed)))
        found.spend(f"measuring {kind}", evaluations, _editing(model, listed, n_edits, config))
    _estimate_recording(found, model, bench, [*sample, *in_words])
    attributing = Attributing(model)
    proxy = [one for part in bench.portions for listed in part.queries.values() for one in listed]
    free = [prompt for part in bench.portions for prompt in part.free.values()]
    apart = next((part.others for part in bench.portions), ())
    for kind, listed in _by_kind(proxy):
        each = rate_of(
            lambda some: attributing(Portion({"sample": some}, {}, config, apart)),
            listed,
        )
        found.spend(f"attributing {kind}", len(listed), each)
    each = rate_of(
        lambda some: attributing(Portion({}, {one.id: one for one in some}, config)),
        free,
    )
    found.spend("attributing answers to compare with", len(free), each)
    n_queries = sum(len(part.queries) + len(part.free) for part in bench.portions)
    found.disk_bytes += n_queries * QUERY_BYTES
    longest = max((len(one.tokens) for one in (*letters, *words)), default=1)
    rows = config.internal_batch_size or default_rows(model, longest)
    wide = extra_bytes(model.module, width_of(config.attribution_dtype)) if n_queries else 0
    return rows * row_bytes(model, longest) + wide


def _estimate_recording(
    found: DryRun, model: LanguageModel, bench: DryBench, sample: Sequence[Prompt]
) -> None:
    recorded = sum(study.recorded for study in bench.studies)
    if recorded:
        sites = tuple(bench.sites)
        each = rate_of(lambda some: record_responses(model, some, sites), sample)
        found.spend("recording", recorded, each)


def _answering(model: LanguageModel, sample: Sequence[Prompt]) -> Rate:
    """Seconds per prompt and intervention."""
    sites = tuple(site for site in ("gate", "up", "down") if site in model.sites)
    neurons = uniform_random(NeuronIndex(model.identity, sites), 8, 0)
    changes = {str(n): Deactivate(neurons) for n in range(4)}
    each = rate_of(lambda some: list(answer_prompts(model, some, changes, border=" ")), sample)
    return each / len(changes)


def _editing(
    model: LanguageModel, asked: Sequence[Asked], n_edits: int, config: QueriesConfig
) -> Rate:
    """Seconds per prompt and edit, with so many edits of a prompt side by side."""
    index = NeuronIndex(model.identity, (config.site,))
    neurons = uniform_random(index, min(config.v, len(index)), 0)

    def edits(positions: str) -> list[tuple[str, Scale | None]]:
        return [(str(n), Scale(neurons, config.suppress, positions)) for n in range(n_edits)]

    def measure(some: Sequence[Asked]) -> None:
        letters = [ChoiceTask(one, edits("last")) for one in some if isinstance(one, Letters)]
        words = [WordTask(one, edits("answer")) for one in some if isinstance(one, Words)]
        list(measure_choices(model, letters, batch_size=config.batch_size))
        list(measure_words(model, words, batch_size=config.batch_size))

    return rate_of(measure, asked) / n_edits


def _by_kind(asked: Sequence[Asked]) -> list[tuple[str, list[Asked]]]:
    """What there is of letters and of answers in words."""
    kinds = {
        "letters": [one for one in asked if isinstance(one, Letters)],
        "answers in words": [one for one in asked if isinstance(one, Words)],
    }
    return [(kind, list[Asked](listed)) for kind, listed in kinds.items() if listed]
