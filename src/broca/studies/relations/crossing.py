"""Wording or subject: what makes a relation's neurons respond? A control of the finder.

1. Every relation has a partner, the one half way round the list. Up to `SUBJECTS` detection
   subjects of each are asked in the wordings of both: own or other wording × own or other subject.
2. Responses of the relation's neurons, standardised neuron by neuron over these prompts, mean over
   neurons: a reading per prompt.
3. Main effects of the wording and of the subject on the reading; the wording's share is its effect
   in both together. A neuron of the wording has a share of 1, one of the subjects 0.
4. Wordings share content words where they have a word in common that is not a function word.

METHODS §7, Wording; ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from broca.facts import Fact, Relation
from broca.neurons import NeuronSet
from broca.prompts import Prompt
from broca.responses import Responses
from broca.studies.relations.material import Material
from broca.studies.study import Bench

SUBJECTS = 12
_FUNCTION = """
a an and are as at be been being by called can did do does for from had has have he her his how in
is it its made me of on one or she that the their there they this to was were what when where which
who whom whose why will with you
"""
FUNCTION_WORDS = frozenset(re.findall(r"\w+", _FUNCTION))


def content_words(wording: str) -> set[str]:
    """Words of a wording that are no function words, lower case."""
    return set(re.findall(r"\w+", wording.replace("{}", " ").lower())) - FUNCTION_WORDS


def cross_records(material: Material, bench: Bench) -> list[dict[str, Any]]:
    """Effects of wording and subject on every relation's neurons; see the module."""
    names = material.names
    if len(names) < 2:
        return []
    groups: dict[tuple[str, str], list[Prompt]] = {}
    partners = {n: names[(i + len(names) // 2) % len(names)] for i, n in enumerate(names)}
    for own, other in partners.items():
        for wording, subject in product((own, other), (own, other)):
            if (wording, subject) not in groups:
                groups[wording, subject] = _asked(material, wording, subject)
    prompts = list({p.id: p for listed in groups.values() for p in listed}.values())
    responses = bench.record(prompts, material.index.sites, material.config.pooling)
    row = {prompt: number for number, prompt in enumerate(responses.prompt_ids)}
    rows = {pair: [row[p.id] for p in listed] for pair, listed in groups.items()}
    return [_record(material, own, other, responses, rows) for own, other in partners.items()]


def _asked(material: Material, wording: str, subject: str) -> list[Prompt]:
    """Subjects of one relation in the wordings of another (or its own)."""
    wanted = list(dict.fromkeys(p.subject for p in material.detection[subject]))[:SUBJECTS]
    relation: Relation = material.facts[wording]
    facts = tuple(
        Fact(name, wording, relation.objects[:1], relation.language, f"{wording}:{subject}:{name}")
        for name in wanted
    )
    return material.asking.render(replace(relation, facts=facts), role="cross")


def _record(
    material: Material,
    own: str,
    other: str,
    responses: Responses,
    rows: Mapping[tuple[str, str], Sequence[int]],
) -> dict[str, Any]:
    cells = list(product((own, other), (own, other)))
    listed = [row for cell in cells for row in rows[cell]]
    reading = readings(responses, material.sets[own], listed)
    ends = np.cumsum([len(rows[cell]) for cell in cells])[:-1]
    both, wording, subject, neither = (float(part.mean()) for part in np.split(reading, ends))
    by_wording = (both + wording - subject - neither) / 2
    by_subject = (both + subject - wording - neither) / 2
    total = max(by_wording, 0.0) + max(by_subject, 0.0)
    return {
        "relation": own,
        "partner": other,
        "own_own": both,
        "own_wording": wording,
        "own_subject": subject,
        "neither": neither,
        "by_wording": by_wording,
        "by_subject": by_subject,
        "wording_share": max(by_wording, 0.0) / total if total else float("nan"),
    }


def readings(responses: Responses, neurons: NeuronSet, rows: Sequence[int]) -> np.ndarray:
    """Mean standardised response of a set's neurons to some prompts, [prompt]."""
    values = np.empty((len(rows), len(neurons)))
    for site, layer in neurons.counts():
        ranks = neurons.where(site, layer)
        block = np.asarray(responses.block(site, layer))[np.asarray(rows)]
        values[:, ranks] = np.nan_to_num(block[:, neurons.indices[ranks]])
    spread = values.std(axis=0)
    moved = spread > 0
    if not moved.any():
        return np.zeros(len(rows))
    return ((values - values.mean(axis=0))[:, moved] / spread[moved]).mean(axis=1)
