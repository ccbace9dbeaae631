"""How a question with options becomes a prompt: our own wordings, and those atlas was trained on.

Both are TOML files with one array of wordings per language; see `wordings.toml` beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from broca.errors import QuestionsError
from broca.facts.reading import Source, read_toml

_KINDS = {"text": str, "option": str, "name": str, "trained": bool}
FORM = 'Each needs text = "... {question} ... {options} ..." and option = "{label}. {option}"'


@dataclass(frozen=True)
class ChoiceWording:
    """One way to ask a question with options.

    Attributes:
        text: With `{question}` and `{options}`; the answer's label follows its end.
        option: One option, with `{label}` and `{option}`; options are joined by line breaks.
        name: Short name for prompt ids.
        trained: False for a wording that the embedded model has never seen.
    """

    text: str
    option: str
    name: str = ""
    trained: bool = True

    def __post_init__(self) -> None:
        try:
            complete = "\0Q" in self.render("\0Q", ("\0O",), ("\0L",))
            filled = self.render("", ("\0O",), ("\0L",))
        except (KeyError, IndexError, ValueError, AttributeError, TypeError):
            complete, filled = False, ""
        if not complete or "\0O" not in filled or "\0L" not in filled:
            raise QuestionsError("a wording lacks a slot or has a stray one", self.text, FORM)

    def render(self, question: str, options: tuple[str, ...], labels: tuple[str, ...]) -> str:
        """The prompt's text, without space at its end."""
        lines = [
            self.option.format(label=label, option=option)
            for label, option in zip(labels, options, strict=True)
        ]
        return self.text.format(question=question, options="\n".join(lines)).rstrip()


def load_wordings(source: str | Path = "own") -> Mapping[str, tuple[ChoiceWording, ...]]:
    """Language -> wordings.

    Args:
        source: "own" (three per language), "atlas" (those of the embedded model, with the ones
            it was never trained on marked), or a TOML file of the same form.

    Raises:
        QuestionsError: The file cannot be read, or a wording lacks a slot.
    """
    return _packaged(source) if source in ("own", "atlas") else _load(Path(source))


@cache
def _packaged(source: str | Path) -> Mapping[str, tuple[ChoiceWording, ...]]:
    place = ("questions", "wordings.toml") if source == "own" else ("atlas", "choices.toml")
    return _load(files("broca").joinpath(*place))


def _load(path: Source) -> Mapping[str, tuple[ChoiceWording, ...]]:
    document, _ = read_toml(path, QuestionsError)
    return {lang: _read(lang, entries, str(path)) for lang, entries in document.items()}


def _read(language: str, entries: object, where: str) -> tuple[ChoiceWording, ...]:
    if not isinstance(entries, list) or not all(map(_is_wording, entries)):
        raise QuestionsError(f"malformed wordings for language {language!r}", where, FORM)
    return tuple(
        ChoiceWording(
            text=entry["text"],
            option=entry["option"],
            name=entry.get("name", str(number)),
            trained=entry.get("trained", True),
        )
        for number, entry in enumerate(entries, start=1)
    )


def _is_wording(entry: object) -> bool:
    if not isinstance(entry, dict) or not {"text", "option"} <= entry.keys() <= _KINDS.keys():
        return False
    return all(isinstance(value, _KINDS[key]) for key, value in entry.items())
