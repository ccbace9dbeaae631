"""What a run would compute, without computing it: conditions, prompts, time, memory.

1. A few prompts are answered and recorded for real: seconds per prompt evaluation.
2. The studies lay out their plans at a bench that measures nothing. Every answer counts as right
   and every score is drawn at random: the number of conditions does not depend on them, except
   that relations the model does not know will fall away.
3. Conditions that several studies name are counted once, as in the run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from broca.engines import LocalEngine
from broca.interventions import Deactivate
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from broca.prompts import Prompt
from broca.responses import Responses, record_responses
from broca.run.bench import RunBench
from broca.run.job import Job
from broca.run.sharing import Share
from broca.scores import Labelling, NeuronScores
from broca.store import RunFolder
from broca.studies import load_family
from broca.studies.study import Plan, Results

COUNTED = ("relations",)  # families all of whose work goes through the bench
SAMPLE = 64  # prompts answered and recorded to take the time
SECONDS_PER_SCORE = 80e-6 / 12 / 1500  # of a neuron, a labelling and a prompt (METHODS §5)


@dataclass(frozen=True)
class Estimate:
    """What one study would need.

    Attributes:
        study: Its name.
        conditions: Conditions it names.
        new: Conditions that no earlier study names.
        evaluations: Prompt evaluations these need, untouched answers included.
        recorded: Prompts whose responses are recorded.
    """

    study: str
    conditions: int
    new: int
    evaluations: int
    recorded: int


@dataclass
class DryRun:
    """What a whole run would need.

    Attributes:
        studies: Study by study, preparations among them.
        seconds: Estimated time.
        memory_bytes: Weights, and what scoring holds at a time.
        disk_bytes: Recorded responses and rows.
        pairs: Distinct pairs of intervention and prompt.
        left_out: Families whose studies do not work by conditions on prompts alone.
    """

    studies: list[Estimate] = field(default_factory=list)
    seconds: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    pairs: int = 0
    left_out: list[str] = field(default_factory=list)

    @property
    def evaluations(self) -> int:
        """Prompt evaluations of all studies."""
        return sum(study.evaluations for study in self.studies)

    @property
    def recorded(self) -> int:
        """Prompts recorded by all studies."""
        return sum(study.recorded for study in self.studies)


class DryBench(RunBench):
    """A bench that counts instead of measuring; see the module."""

    def __init__(self, model: LanguageModel, batch_size: int = 64) -> None:
        super().__init__(model, RunFolder(Path(), {}, None), LocalEngine(), batch_size)
        self.studies: list[Estimate] = []
        self.scored = 0  # neurons × labellings × prompts
        self.recorded_values = 0
        self._recorded_now = 0
        self._computed_now = 0
        self._scorings = 0
        self._seen: set[tuple[str, ...]] = set()
        self._evaluations = 0

    def record(
        self, prompts: Sequence[Prompt], sites: Sequence[str], pooling: str = "mean"
    ) -> Responses:
        """Responses without values."""
        ids = tuple(prompt.id for prompt in prompts)
        index = NeuronIndex(self.model.identity, tuple(sites))
        if (*index.sites, pooling, *ids) not in self._seen:
            self._seen.add((*index.sites, pooling, *ids))
            self._recorded_now += len(ids)
            self.recorded_values += len(ids) * len(index)
        return Responses(index, ids, pooling, key="dry")

    def score(
        self, responses: Responses, labellings: Mapping[str, Labelling]
    ) -> dict[str, NeuronScores]:
        """Scores at random."""
        self._scorings += 1
        size = len(responses.index)
        self.scored += size * sum(int(np.sum(label.included)) for label in labellings.values())
        return {
            name: NeuronScores(
                responses.index, np.random.default_rng([self._scorings, i]).random(size), "drawn"
            )
            for i, name in enumerate(labellings)
        }

    def keep_set(self, neurons: NeuronSet, name: str) -> None:
        """Nothing is kept."""

    def measure(self, study: str, plan: Plan) -> Results:
        """Count what is new, answer that everything is right."""
        results = super().measure(study, plan)
        self.studies.append(
            Estimate(
                study,
                len(plan.conditions),
                self._computed_now,
                self._evaluations,
                self._recorded_now,
            )
        )
        self._computed_now = self._evaluations = self._recorded_now = 0
        return results

    def _measure_borders(self, prompts: Any) -> None:
        for prompt in prompts:
            self._borders.setdefault(prompt.language, " ")

    def _compute(self, study: str, plan: Plan, shares: Sequence[Share]) -> None:
        self._computed_now += len(shares)
        self._evaluations += sum(len(share.prompts) for share in shares)

    def _results(self, plan: Plan) -> Results:
        prompts = [p for c in plan.conditions for p in plan.groups[c.prompts]]
        n, texts = len(prompts), np.full(len(prompts), "", dtype=object)
        columns: dict[str, np.ndarray] = {
            "prompt": np.array([p.id for p in prompts], dtype=object),
            "relation": np.array([p.relation for p in prompts], dtype=object),
            "query": np.array([p.fact for p in prompts], dtype=object),
            **dict.fromkeys(("correct", "correct_before"), np.ones(n, bool)),
            **dict.fromkeys(("log_p", "log_p_before"), np.zeros(n)),
            **dict.fromkeys(("text", "text_before", "said"), texts),
            "n_answer_tokens": np.ones(n, int),
        }
        places, start = {}, 0
        for condition in plan.conditions:
            stop = start + len(plan.groups[condition.prompts])
            places[condition] = np.arange(start, stop)
            start = stop
        return Results(columns, places, plan.extra)


def dry_run(job: Job, model: LanguageModel | None = None) -> DryRun:
    """Count what a job would compute, and estimate its time and memory.

    Args:
        job: What would be run.
        model: A loaded model in place of the one the job names.

    Raises:
        BrocaError: Whatever is wrong with model, facts or settings.
    """
    model = model or job.model.load()
    found = DryRun(memory_bytes=_weights(model))
    for name, settings in job.settings.items():
        if name not in COUNTED:
            found.left_out.append(name)
            continue
        family = load_family(name)
        bench = DryBench(model, getattr(settings, "batch_size", 64))
        material = family.prepare(settings, bench)
        for study in job.studies_of(name):
            bench.measure(study.name, study.plan(material, bench))
        found.studies += bench.studies
        found.pairs += len(bench.needed)
        answering, recording = _take_time(model, list(bench.asked.values()))
        found.seconds += sum(s.evaluations for s in bench.studies) * answering
        found.seconds += sum(s.recorded for s in bench.studies) * recording
        found.seconds += bench.scored * SECONDS_PER_SCORE
        found.memory_bytes += 64 << 20
        found.disk_bytes += 4 * bench.recorded_values
        found.disk_bytes += 40 * sum(s.evaluations for s in bench.studies)
    return found


def _weights(model: LanguageModel) -> int:
    return sum(p.numel() * p.element_size() for p in model.module.parameters())


def _take_time(model: LanguageModel, prompts: Sequence[Prompt]) -> tuple[float, float]:
    """Seconds per prompt evaluation under an intervention, and per recorded prompt."""
    asked = [prompt for prompt in prompts if prompt.answers]
    sample = asked[:: max(1, len(asked) // SAMPLE)][:SAMPLE]
    sites = tuple(site for site in ("gate", "up", "down") if site in model.sites)
    neurons = uniform_random(NeuronIndex(model.identity, sites), 8, 0)
    seconds = []
    for _attempt in range(2):  # the first one warms up
        start = time.perf_counter()
        changes = {str(n): Deactivate(neurons) for n in range(4)}
        for _ in answer_prompts(model, sample, changes, border=" "):
            pass
        middle = time.perf_counter()
        record_responses(model, sample, sites)
        seconds = [
            (middle - start) / (4 * len(sample)),
            (time.perf_counter() - middle) / len(sample),
        ]
    return seconds[0], seconds[1]
