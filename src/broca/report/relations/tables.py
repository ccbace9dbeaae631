"""The tables of the relation studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.relations.figures import INTER, INTRA
from broca.report.relations.words import PAPER_LOST
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table


def cells(records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[tuple[Any, ...]]:
    return [tuple(record[key] for key in keys) for record in records]


def drops_table(drops: Sequence[Mapping[str, Any]]) -> Table:
    columns = [
        "relation",
        Column("n", "d", "evaluation facts"),
        Column("before", "percent", "accuracy untouched"),
        Column("after", "percent", "accuracy with the own neurons off"),
        Column("own drop", "percent", "acc_drop"),
        Column("low", "percent", "95 % bootstrap interval over facts"),
        Column("high", "percent"),
        Column("matched", "percent", "acc_drop with matched random sets off, their mean"),
        Column("uniform", "percent", "acc_drop with uniformly random sets off, their mean"),
        Column("p (Holm)", "p", "sign flips over facts: own against matched sets"),
        Column("loss of log P", ".2f"),
        Column("p (Holm), log P", "p"),
        Column("lost here", "d", "prompts turned from right to wrong"),
        Column("lost, Llama-2-7B", "d", "of 50, as the paper reports it"),
    ]
    keys = (
        *("relation", "n", "before", "after", "own_drop", "own_drop_low", "own_drop_high"),
        *("matched_drop", "uniform_drop", "p_holm", "log_p_drop", "p_log_p_holm"),
    )
    rows = [
        (*row, record["lost"], PAPER_LOST.get(record["relation"]))
        for row, record in zip(cells(drops, keys), drops, strict=True)
    ]
    return Table(columns, rows, "Own drops on evaluation facts", name="drops")


def accuracy_table(run: StoredRun) -> Table:
    columns = [
        "relation",
        "part",
        "off",
        Column("facts", "d"),
        Column("accuracy", "percent"),
        Column("low", "percent"),
        Column("high", "percent"),
        Column("one-token objects", "percent"),
        Column("longer objects", "percent"),
        Column("log P", ".2f"),
    ]
    keys = (
        *("relation", "part", "off", "n", "accuracy", "accuracy_low", "accuracy_high"),
        *("accuracy_one_token", "accuracy_longer", "log_p"),
    )
    rows = cells(run.table(INTRA, "accuracy"), keys)
    return Table(columns, rows, "Accuracy and log P", folded=True, name="accuracy")


def k_table(run: StoredRun) -> Table:
    table = run.table(INTRA, "k")
    form = "percent" if table[0]["by"] == "accuracy" else ".2f"
    columns = [
        Column("k", "d"),
        Column("share", ".2%"),
        *(Column(name, form) for name in ("own", "other", "matched", "gain")),
        "chosen",
    ]
    keys = ("k", "share", "own", "other", "matched", "gain", "chosen")
    caption = "How k was chosen, on detection prompts only"
    return Table(columns, cells(table, keys), caption, folded=True, name="choice-of-k")


def sets_table(run: StoredRun) -> Table:
    columns = [
        "set",
        Column("neurons", "d"),
        Column("units", "d", "gate i, up i and hidden i of a layer are one unit"),
        Column("own drop", "percent"),
        Column("other drop", "percent", "mean over the other relations"),
        Column("worst other", "percent"),
        Column("best other", "percent", "negative: a relation gains"),
        Column("highest AP", ".3f"),
        Column("lowest AP", ".3f"),
    ]
    keys = (
        *("set", "neurons", "units", "own_drop", "other_drop", "other_drop_worst"),
        *("other_drop_best", "highest_ap", "lowest_ap"),
    )
    return Table(columns, cells(run.table(INTER, "sets"), keys), "The sets", name="sets")


def answers_table(run: StoredRun) -> Table:
    rows = []
    for record in run.table(INTER, "answers"):
        prompt = run.prompts.get(record["prompt"], {})
        rows.append(
            (
                record["relation"],
                prompt.get("text", record["prompt"]),
                ", ".join(prompt.get("answers", ())),
                record["before"].strip(),
                record["after"].strip(),
                record["said"],
                record["log_p_before"],
                record["log_p_after"],
            )
        )
    columns = [
        "relation",
        "prompt",
        "right",
        "untouched",
        "own neurons off",
        "kind",
        Column("log P before", ".2f"),
        Column("log P after", ".2f"),
    ]
    return Table(
        columns, rows, "Answers before and after (two tokens)", folded=True, name="answers"
    )
