"""A copy of a model with its value vectors changed: a checkpoint that plain transformers loads."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broca.edits.reading_back import check_copy
from broca.edits.weights import ValueVectors, WeightEdit, edited, value_columns
from broca.errors import EditError
from broca.model import LanguageModel

CARD, RECORD = "README.md", "edit.json"


def save_edited(
    model: LanguageModel,
    edits: WeightEdit | Sequence[WeightEdit],
    folder: str | Path,
    *,
    note: str = "",
) -> Path:
    """Write a copy of the model with edits made in its weights.

    The folder appears when everything in it is written, and the copy, read back, has been found to
    be the model under the same intervention: weights, configuration, tokenizer, a card
    (``README.md``) and every edit with its neurons (``edit.json``). The model itself is afterwards
    as it was, and the files it was loaded from are never opened for writing.

    Args:
        model: The model under study.
        edits: ``Deactivate`` and ``Scale`` at all positions, or new value vectors.
        folder: A folder that does not exist or is empty.
        note: Further lines for the card, in Markdown.

    Raises:
        EditError: If the folder holds something or cannot be written, the weights cannot be edited
            (quantised, offloaded, an adapter kept beside them), an edit is none of value vectors,
            or the copy that was written is not the model under the intervention.
        NeuronError: If a set belongs to a model of another shape.
    """
    listed = [edits] if isinstance(edits, WeightEdit) else list(edits)
    target = Path(folder).absolute()
    check_folder(target)
    _sweep_partial(target)
    beside = target.with_name(f".{target.name}.part-{uuid.uuid4().hex[:8]}")
    records = [_record(model, edit) for edit in listed]
    try:
        with edited(model, *listed):
            model.module.save_pretrained(beside)
        model.tokenizer.save_pretrained(beside)
        check_copy(model, listed, beside)
        (beside / CARD).write_text(_card(model, listed, note), encoding="utf-8")
        content = {"format": "broca.edit", "version": 1, "model": _origin(model), "edits": records}
        (beside / RECORD).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if target.exists():  # empty, as checked
            target.rmdir()
        os.replace(beside, target)
    except OSError as error:
        raise EditError("The copy cannot be written", str(folder), str(error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Path(folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something would be overwritten.

    Raises:
        EditError: If it exists and is not empty, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EditError(
            "The folder exists and is not empty" if folder.is_dir() else "This is a file",
            str(folder),
            "Nothing is ever overwritten: choose a new folder.",
        )


def _sweep_partial(target: Path) -> None:
    """Delete what killed writes of the same copy left beside it: weights, tens of megabytes."""
    if not target.parent.is_dir():
        return
    for left in target.parent.iterdir():
        beginning, mark, rest = left.name.partition(f".{target.name}.part-")
        if mark and not beginning and re.fullmatch(r"[0-9a-f]{8}", rest):
            shutil.rmtree(left, ignore_errors=True)


def _origin(model: LanguageModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "revision": model.revision,
        "fingerprint": model.identity.fingerprint,
    }


def _record(model: LanguageModel, edit: WeightEdit) -> dict[str, Any]:
    """One edit as plain values."""
    common = {"set": edit.neurons.name, "neurons": [str(neuron) for neuron in edit.neurons]}
    if not isinstance(edit, ValueVectors):
        return {"kind": "scale", "factor": edit.factor, **common}
    return {
        "kind": "value-vectors",
        "about": edit.about,
        **common,
        "relative_change": [round(x, 6) for x in relative_changes(model, edit).tolist()],
    }


def relative_changes(model: LanguageModel, edit: ValueVectors):
    """Length of each change / length of the value vector it is added to, [neuron]."""
    lengths = value_columns(model, edit.neurons).norm(dim=1)
    return edit.change.cpu().norm(dim=1) / lengths.clamp(min=1e-12)


def _card(model: LanguageModel, edits: Sequence[WeightEdit], note: str) -> str:
    revision = f", revision {model.revision}" if model.revision else ""
    lines = [
        f"# An edited copy of {model.name}",
        "",
        f"Made by broca from {model.name}{revision} (weights fingerprint "
        f"{model.identity.fingerprint}). Only value vectors were changed: columns of the down "
        "projections, one per hidden neuron. Every other number is the same, and so is "
        "the licence.",
        "",
        "It loads like any other model:",
        "",
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "model = AutoModelForCausalLM.from_pretrained(folder)",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "```",
        "",
        "## What was changed",
        "",
        *(f"- {_words(model, edit)}" for edit in edits),
        "",
        f"All neurons are listed in {RECORD}, as site:layer:index counted from 0.",
    ]
    return "\n".join([*lines, *(["", note.strip()] if note.strip() else [])]) + "\n"


def _words(model: LanguageModel, edit: WeightEdit) -> str:
    n_layers = len(set(edit.neurons.layers.tolist()))
    layers = "1 layer" if n_layers == 1 else f"{n_layers} layers"
    where = f"{len(edit.neurons)} neurons in {layers}"
    name = f" (set {edit.neurons.name!r})" if edit.neurons.name else ""
    if not isinstance(edit, ValueVectors):
        change = "switched off" if edit.factor == 0 else f"multiplied by {edit.factor:g}"
        return f"{where}{name}: {change}, the same as that intervention at every position."
    largest = float(relative_changes(model, edit).max()) if len(edit.neurons) else 0.0
    about = f"{edit.about}: " if edit.about else ""
    return (
        f"{about}new value vectors for {where}; the largest change is {largest:.0%} of the "
        "vector's own length."
    )
