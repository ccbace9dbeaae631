"""Prompts of a tiny model for the locator studies, and a bench that keeps in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from broca.model import LanguageModel
from broca.prompts import Prompt
from broca.report.stored_run import StoredRun
from broca.studies.locators import LocatorsConfig, Material
from tiny import TEXTS, tiny_model

ANSWERS = (" dog", " France", " A", " B", " city", " the")


def prompts() -> list[Prompt]:
    """Prompts of two made-up relations."""
    texts = [*TEXTS, TEXTS[0] + " of", TEXTS[1] + " and"]
    return [
        Prompt(f"p{n}", text, (answer,), relation="rs"[n % 2])
        for n, (text, answer) in enumerate(zip(texts, ANSWERS, strict=True))
    ]


def material(**settings: Any) -> Material:
    """The first two prompts, to be judged; the others are for contrasts."""
    asked = prompts()
    by = {name: [p for p in asked if p.relation == name] for name in "rs"}
    config = LocatorsConfig(n_prompts=2, n_others=2, n_group=2, n_resamples=100, **settings)
    return Material(config, asked[:2], by, {"r": by["s"], "s": by["r"]}, 0)


class Bench:
    """Keeps in memory, and counts what was computed."""

    def __init__(self, model: LanguageModel | None = None) -> None:
        self.model, self.kept, self.computed = model or tiny_model(), {}, 0

    def keep(
        self,
        kind: str,
        function: Callable[[LanguageModel, Any], dict[str, Any]],
        items: Sequence[tuple[Any, Any]],
        *,
        quick: bool = False,
    ) -> list[dict[str, Any]]:
        found = []
        for determinants, item in items:
            key = (kind, str(determinants))
            if key not in self.kept:
                self.computed += 1
                self.kept[key] = function(self.model, item)
            found.append(self.kept[key])
        return found


def stored(settings: dict[str, Any], **tables: list[dict[str, Any]]) -> StoredRun:
    """What pages read of a run: its settings, and the tables of one study."""
    run: Any = SimpleNamespace(
        setting=lambda family, name, default=None: settings.get(name, default),
        table=lambda study, name: tables.get(name, []),
        words=lambda study: [],
    )
    return run
