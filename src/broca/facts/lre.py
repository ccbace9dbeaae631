"""Facts in the JSON format of the LRE data set: one file per relation, with its own wordings.

`prompt_templates` become the template set "finding" (they are the wordings of the paper's
`NVIDIA's CEO is? Answer:`); those of `prompt_templates_zs` that are not among them become
"robustness", so that studies of other wordings have a second set. A file with zero-shot wordings
only has them as "finding".

Source: Hernandez et al., *Linearity of Relation Decoding in Transformer Language Models* (2024).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from broca.errors import FactsError

from .names import canonical_name, field_of
from .reading import read_json
from .tables import RawFact
from .templates import RelationInfo, check_wordings
from .texts import many_texts, one_text

FORMAT = 'An LRE file holds {"prompt_templates": [...], "samples": [{"subject", "object"}, ...]}'


def read_lre(path: Path) -> tuple[list[RawFact], dict[str, RelationInfo]]:
    """Raw facts and relation infos of one LRE file or of all `*.json` files of a folder.

    Raises:
        FactsError: A file is malformed, or two files hold the same relation.
    """
    facts: list[RawFact] = []
    infos: dict[str, RelationInfo] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        name = canonical_name(file.stem)
        if name in infos:
            raise FactsError(f"two files hold the relation {name}", str(file), "Keep one of them")
        document, text = read_json(file, FactsError)
        if not isinstance(document, dict) or not isinstance(document.get("samples"), list):
            raise FactsError("this is no LRE file: it has no list of samples", str(file), FORMAT)
        infos[name] = _info(name, document, str(file), text)
        facts.extend(_samples(name, document, str(file), text))
    return facts, infos


def _info(name: str, document: dict[str, Any], where: str, text: str) -> RelationInfo:
    statements = check_wordings(document.get("prompt_templates", []), name, where, text)
    zero_shot = check_wordings(document.get("prompt_templates_zs", []), name, where, text)
    sets = {
        "finding": statements or zero_shot,
        "robustness": tuple(w for w in zero_shot if statements and w not in statements),
    }
    properties = document.get("properties") or {}
    if not isinstance(properties, dict):
        raise FactsError("`properties` is no object", where, FORMAT)
    language = _language(document, where)
    return RelationInfo(
        templates={language: {kind: w for kind, w in sets.items() if w}},
        field=field_of(name),
        concept=one_text(properties.get("domain_name"), "domain_name", where, FactsError),
        object_kind=one_text(properties.get("range_name"), "range_name", where, FactsError),
    )


def _samples(name: str, document: dict[str, Any], where: str, text: str) -> Iterator[RawFact]:
    language = _language(document, where)
    for number, sample in enumerate(document["samples"]):
        try:
            subject, objects = _sample(sample, where)
        except FactsError as error:
            place = f"{where}, line {_line_of_sample(text, number)}"
            raise FactsError(error.what, place, error.mend) from None
        yield RawFact(subject, name, objects, where=where, language=language)


def _sample(sample: object, where: str) -> tuple[str, tuple[str, ...]]:
    """Subject and right objects of a sample."""
    if not isinstance(sample, dict):
        raise FactsError("no sample", where, FORMAT)
    subject = one_text(sample.get("subject"), "subject", where, FactsError)
    objects = many_texts(sample.get("object"), "object", where, FactsError)
    if not subject or not objects:
        raise FactsError("a sample without subject or object", where, FORMAT)
    return subject, tuple(dict.fromkeys(objects))


def _language(document: dict[str, Any], where: str) -> str:
    return one_text(document.get("language"), "language", where, FactsError) or "en"


def _line_of_sample(text: str, number: int) -> int:
    """Line of the sample at this position, counted from 1."""
    opening = re.search(r'"samples"\s*:\s*\[', text)
    position = opening.end() if opening else 0
    decoder, gap = json.JSONDecoder(), re.compile(r"[\s,]*")
    for _ in range(number):
        position = gap.match(text, position).end()  # pyright: ignore[reportOptionalMemberAccess]
        position = decoder.raw_decode(text, position)[1]
    position = gap.match(text, position).end()  # pyright: ignore[reportOptionalMemberAccess]
    return text.count("\n", 0, position) + 1
