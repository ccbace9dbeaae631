"""How queries were asked, in sentences: the form, one prompt as the model reads it, other forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from broca.prompts.forms import name_of
from broca.studies.queries.forms import Tried
from broca.studies.queries.locating import Asked

if TYPE_CHECKING:
    from broca.studies.queries.material import Part


def forms_words(asked: Mapping[str, Sequence[Asked]], tried: Sequence[Tried]) -> str:
    """The forms tried with their accuracies, or the one form that was asked in."""
    if not tried:
        form = next((one.prompt.form for listed in asked.values() for one in listed), "")
        return f"the form {name_of(form)}"
    return "the forms " + ", ".join(
        f"{one.form} not asked" if one.accuracy is None else f"{one.form} {one.accuracy:.0%}"
        for one in tried
    )


def asking_words(part: Part) -> str:
    """The form of asking, with one prompt as the model reads it, and how the other forms did."""
    prompt = next(one.prompt for listed in part.asked.values() for one in listed)
    what = "in words" if part.answer == "words" else "with letters"
    words = f"Asked {what}, in the form {name_of(part.form)}, for example: {prompt.text!r}."
    if part.tried:
        n = max(one.n for one in part.tried)
        kept = "kept for this alone" if part.tried[0].apart else "that are asked again"
        listed = forms_words(part.asked, part.tried).removeprefix("the forms ")
        words += f" Forms tried on {n} prompts {kept}: {listed}."
    return words
