"""`broca inspect --table`: every known family built tiny, and what works in which form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

_HEAD = """# Models

What `broca inspect --table` prints: every family below is built tiny from its configuration, its
sites are checked by arithmetic as for any model that is loaded, and the forms in which it can be
attributed are measured (see `METHODS`: wavefront is the fastest, whole prompts the slowest; the
first that passes is taken). Nothing here is assumed of a family's name, and a family that is not
listed is treated alike: it passes the same checks or is refused in one sentence.

- **layers**: gated or plain MLPs, experts (neurons are numbered expert by expert, a shared expert
  behind them), post-norm, hybrid (layers without attention), layers without an MLP.
- **sites**: `q k v` are offered where arithmetic tells which outputs they are.
- **driven otherwise**: what does not hold in the family and is therefore not used: left padding
  (batches of one length), running layers from a given one on (whole passes), keys and values for a
  next token (whole prompts).

"""


def models_page(families: Sequence[str] | None = None) -> str:
    """The page docs/models.md: a table of families as measured."""
    from broca.model.families import KNOWN

    rows = list(measured(KNOWN if families is None else families))
    works = sum(row.outcome == "works" for row in rows)
    from broca.model.families import as_markdown

    return f"{_HEAD}{works} of {len(rows)} families work.\n\n{as_markdown(rows)}\n"


def measured(families: Iterable[str]) -> Iterable[Any]:
    """Measure families, attribution included."""
    import transformers

    from broca.attributions import Path, check_form
    from broca.attributions.branching import FORMS
    from broca.model.families import survey

    def forms_of(model: Any) -> list[str]:
        return [form for form in FORMS if check_form(model, Path(), form).passed]

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(resources.files("broca") / "atlas"))
    return survey(families, tokenizer, forms_of)
