"""Effects of a query's sets, one number per query, and the statistics of METHODS §3 and §7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from broca.estimates import (
    Estimate,
    absolute_gap,
    bootstrap,
    bootstrap_mean,
    fewest_to_flip,
    judge,
    ratio,
    sign_flip_test,
)
from broca.studies.queries.config import QueriesConfig
from broca.studies.study import Condition, Outcomes, Results

SIGN = {"boost": 1.0, "suppress": -1.0}
"""Which way an effect counts as wanted."""

CONTROLS = {"matched": "beyond", "active": "beyond_active"}
"""Kinds of random sets, with what the gap to them is called: own - random, as wanted."""


Kind = tuple[str, str, str]
"""Method, action, and whose prompts or sets: see `Key`."""


class Key(NamedTuple):
    """What a condition is for: a method's set of a query, an action, and whose prompts."""

    method: str
    action: str
    kind: str  # related, same (field), unrelated; own prompts with random sets: matched, active
    query: str


@dataclass(frozen=True)
class Effects:
    """Effects of all sets.

    Attributes:
        queries: The queries that have neurons, in order.
        relative: (method, action, kind) -> mean (P' - P) / P, [query].
        absolute: The same of P' - P.
        within: The same of P within the letters.
        margin: The same of the right letter's margin, in logits.
        groups: Base ids of the queries: versions of one question are drawn and flipped together;
            None: every query for itself.

    An empty set changes nothing: 0, without being measured. It has no matched sets: NaN. A query
    whose field has no other queries has no effect on the same field: NaN.
    """

    queries: tuple[str, ...]
    relative: Mapping[Kind, np.ndarray]
    absolute: Mapping[Kind, np.ndarray]
    groups: tuple[str, ...] | None = None
    within: Mapping[Kind, np.ndarray] = field(default_factory=dict)
    margin: Mapping[Kind, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        places: Mapping[Key, Sequence[Condition]],
        results: Results,
        methods: Sequence[str],
        actions: Sequence[str],
        groups: Sequence[str] | None = None,
    ) -> Effects:
        """Reduce rows to one number per query."""
        number = {query: i for i, query in enumerate(queries)}
        kinds: list[Kind] = list(product(methods, actions, ("related", "unrelated")))
        tables = {name: {kind: np.zeros(len(queries)) for kind in kinds} for name in _CHANGES}
        not_alone = {key.query for key in places if key.kind == "same"}
        several = np.array([query in not_alone for query in queries], bool)
        for kind in product(methods, actions, ("same",)):
            for table in tables.values():
                table[kind] = np.where(several, 0.0, np.nan)
        for key, conditions in places.items():
            rows = results[list(conditions)]
            kind = (key.method, key.action, key.kind)
            for name, of_rows in _CHANGES.items():
                column = tables[name].setdefault(kind, np.full(len(queries), np.nan))
                column[number[key.query]] = of_rows(rows).mean()
        labels = None if groups is None else tuple(groups)
        return cls(tuple(queries), groups=labels, **tables)

    def where(self, keep: np.ndarray) -> Effects:
        """The same of some queries, bool [query]."""
        tables = {
            name: {key: values[keep] for key, values in getattr(self, name).items()}
            for name in _CHANGES
        }
        queries, units = (tuple(np.array(n, object)[keep]) for n in (self.queries, self.units))
        return Effects(queries, groups=units, **tables)

    @property
    def units(self) -> tuple[str, ...]:
        """Label of each query's group."""
        return self.queries if self.groups is None else self.groups

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in order."""
        return tuple(dict.fromkeys(method for method, _, _ in self.relative))

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions, in order."""
        return tuple(dict.fromkeys(action for _, action, _ in self.relative))

    def pair(self, method: str, action: str) -> tuple[np.ndarray, np.ndarray]:
        """Related and Unrelated, each [query]."""
        return self.relative[method, action, "related"], self.relative[method, action, "unrelated"]


def relative_change(rows: Outcomes) -> np.ndarray:
    """(P' - P) / P per row."""
    return np.expm1(rows.log_p - rows.log_p_before)


def change(rows: Outcomes) -> np.ndarray:
    """P' - P per row."""
    return np.exp(rows.log_p) - np.exp(rows.log_p_before)


def change_within(rows: Outcomes) -> np.ndarray:
    """(P' - P) / P within the letters per row, NaN in words."""
    return rows.p_within / rows.p_within_before - 1


def change_of_margin(rows: Outcomes) -> np.ndarray:
    """Change of the right letter's margin per row, in logits, NaN in words."""
    return rows.margin - rows.margin_before


_CHANGES = {
    "relative": relative_change,
    "absolute": change,
    "within": change_within,
    "margin": change_of_margin,
}


def describe(
    effects: Effects, method: str, action: str, *, seed: int, n_resamples: int, n_permutations: int
) -> dict[str, Any]:
    """Related, Unrelated, their difference and PCR of one method, and its test (steps 2 to 4)."""
    related, unrelated = effects.pair(method, action)
    units = np.array(effects.units, dtype=object)
    options: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples, "groups": units}
    record = {
        "method": method,
        "action": action,
        "n": len(related),
        "groups": len(set(units)),
        **spread("related", bootstrap_mean(related, **options)),
        **spread("unrelated", bootstrap_mean(unrelated, **options)),
        **spread("difference", bootstrap(absolute_gap, related, unrelated, **options)),
        **spread("pcr", ratio(related, unrelated, groups=units)),
        **same_record(effects, method, action, options),
        "median_related": float(np.median(related)),
        "change": float(effects.absolute[method, action, "related"].mean()),
        "change_unrelated": float(effects.absolute[method, action, "unrelated"].mean()),
    }
    for name in ("within", "margin"):
        values = getattr(effects, name).get((method, action, "related"))
        if values is not None and np.isfinite(values).all():
            record |= spread(name, bootstrap_mean(values, **options))
    for control in CONTROLS:
        drawn = effects.relative.get((method, action, control))
        if drawn is not None and np.isfinite(drawn).any():
            record |= _beyond(related, drawn, control, action, units, n_permutations, options)
    return record


def _beyond(
    related: np.ndarray,
    random: np.ndarray,
    control: str,
    action: str,
    units: np.ndarray,
    n_permutations: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Own sets against random ones of a kind, over the queries that have them (step 4)."""
    drawn = np.isfinite(random)  # an empty set has none
    beyond, groups = SIGN[action] * (related - random)[drawn], units[drawn]
    options = {**options, "groups": groups}
    p = sign_flip_test(
        group_sums(beyond, groups), seed=options["seed"], n_permutations=n_permutations
    )
    return {
        **spread(control, bootstrap_mean(random[drawn], **options)),
        **spread(CONTROLS[control], bootstrap_mean(beyond, **options)),
        f"p_{control}": p,
    }


def verdict_of(record: Mapping[str, Any], config: QueriesConfig, control: str = "matched") -> str:
    """The verdict on own sets beyond random ones of a kind, Holm's p where there is one."""
    name, n = CONTROLS[control], record["n"]
    if record.get(name) is None:
        return "cannot tell"
    beyond = Estimate(record[name], record[f"{name}_low"], record[f"{name}_high"], n)
    return judge(
        beyond,
        config.smallest_share,
        p=record.get(f"p_{control}_holm", record[f"p_{control}"]),
        alpha=config.alpha,
        reachable=record["groups"] >= fewest_to_flip(config.alpha),
    )


def same_record(
    effects: Effects, method: str, action: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Effect on other queries of the same field, over the queries that have some."""
    same = effects.relative.get((method, action, "same"))
    known = np.zeros(0, bool) if same is None else np.isfinite(same)
    if same is None or not known.any():
        return {"n_same": 0, "same": None, "same_low": None, "same_high": None}
    groups = np.array(effects.units, dtype=object)[known]
    found = bootstrap_mean(same[known], **{**options, "groups": groups})
    return {"n_same": int(known.sum()), **spread("same", found)}


def compare(
    effects: Effects,
    action: str,
    first: str,
    other: str,
    *,
    seed: int,
    n_resamples: int,
    n_permutations: int,
) -> dict[str, Any]:
    """Two methods over the same queries (step 5); positive: the first one has more effect."""
    (a, b), (c, d) = effects.pair(first, action), effects.pair(other, action)
    gap = bootstrap(
        lambda a, b, c, d: absolute_gap(a, b) - absolute_gap(c, d),
        a,
        b,
        c,
        d,
        groups=effects.units,
        seed=seed,
        n_resamples=n_resamples,
    )
    wanted = SIGN[action] * ((a - b) - (c - d))
    return {
        "method": other,
        "action": action,
        "n": len(a),
        "groups": len(set(effects.units)),
        **spread("gap", gap),
        "p": sign_flip_test(
            group_sums(wanted, effects.units),
            seed=seed,
            n_permutations=n_permutations,
            alternative="two-sided",
        ),
    }


def group_sums(values: np.ndarray, groups: Sequence[object] | np.ndarray) -> np.ndarray:
    """Sum over each group, [group], in the order in which groups come.

    A sign flip of these flips all of a group at once; without groups of several they are the
    values themselves.
    """
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    sums = np.zeros(len(number))
    np.add.at(sums, [number[group] for group in groups], values)
    return sums


def spread(name: str, estimate: Estimate) -> dict[str, float]:
    """An estimate as three entries of a record."""
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
    }
