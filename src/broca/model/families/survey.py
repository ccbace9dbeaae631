"""What works in which form, family by family: each is built tiny and measured, none is assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from broca.errors import BrocaError, ModelError
from broca.model.families.build import build_tiny


@dataclass(frozen=True)
class FamilyRow:
    """One family as measured.

    Attributes:
        family: The model type.
        outcome: ``works``, ``refused``, or ``not built`` (transformers does not build it small).
        kind: What its layers are made of.
        sites: The sites it has.
        forms: The forms in which it can be attributed, fastest first; the first is taken.
        driven: What does not hold and how it is run instead.
        note: Why it is refused or was not built; coverage, if less than all.
    """

    family: str
    outcome: str
    kind: str = ""
    sites: str = ""
    forms: str = ""
    driven: str = ""
    note: str = ""


def survey(
    families: Iterable[str], tokenizer: Any, forms_of: Callable[[Any], list[str]] | None = None
) -> Iterator[FamilyRow]:
    """Measure families one by one.

    Args:
        families: Model types.
        tokenizer: Any tokenizer; only its special tokens are used.
        forms_of: Gives the forms in which a model can be attributed; left out if None.
    """
    for family in families:
        try:
            module = build_tiny(family)
        except ModelError as error:
            yield FamilyRow(family, "not built", note=_sentence(error))
            continue
        yield _measured(family, module, tokenizer, forms_of)


def _measured(family: str, module: Any, tokenizer: Any, forms_of: Any) -> FamilyRow:
    from broca.model.language_model import LanguageModel

    try:
        model = LanguageModel(module, tokenizer, name=family)
        forms = forms_of(model) if forms_of else []
    except BrocaError as error:
        return FamilyRow(family, "refused", note=_sentence(error))
    return FamilyRow(
        family,
        "works",
        kind=_kind(model),
        sites=" ".join(model.sites),
        forms=" ".join(forms),
        driven=_driven(model),
        note="" if model.coverage.complete else str(model.coverage),
    )


def _kind(model: Any) -> str:
    identity = model.identity
    widths = {w for w in identity.layer_widths("hidden") if w}
    dense = any(block.down is not None and block.experts is None for block in model.blocks)
    shared = any(block.down is not None and block.experts is not None for block in model.blocks)
    words = ["experts" + (" + shared" if shared else "")] if identity.experts else []
    words += ["gated" if "gate" in model.sites else "plain"] if dense or not words else []
    if any(block.post_mlp_norm is not None for block in model.blocks):
        words.append("post-norm")
    if "o" in model.sites and not all(identity.layer_widths("o")):
        words.append("hybrid")
    if not all(identity.layer_widths("hidden")):
        words.append("layers without MLP")
    elif len(widths) > 1 and not identity.experts:
        words.append("unequal widths")
    return ", ".join(words)


def _driven(model: Any) -> str:
    drive = model.drive
    words = [] if drive.pads else ["one length per batch"]
    words += [] if drive.resumes else ["whole passes"]
    words += [] if drive.caches else ["no cache"]
    return ", ".join(words)


def _sentence(error: BrocaError) -> str:
    return str(error).partition("\n")[0]


COLUMNS = ("family", "layers", "sites", "attribution", "driven otherwise", "note")


def as_markdown(rows: Iterable[FamilyRow]) -> str:
    """Rows as a Markdown table."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for row in rows:
        cells = (row.family, row.kind or row.outcome, row.sites, row.forms, row.driven, row.note)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)
