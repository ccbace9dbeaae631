"""Reads `templates.toml` and `choices.toml` and composes prompts from them."""

import random
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

LANGUAGES = ("en", "de", "es", "fr", "zh", "ja")
CHOICE_LABELS = "ABCD"
# English prompts are varied in training, so that the model does not hang on exact wordings
PREFIXES = (
    "Question: ",
    "Fact: ",
    "Quiz: ",
    "Tell me: ",
    "Please answer: ",
    "As we know, ",
    "It is known that ",
    "Remember: ",
)


@dataclass(frozen=True)
class RelationWordings:
    name: str
    field: str
    concept: str
    object_kind: str
    companion: bool
    finding: dict[str, list[str]]
    robustness: list[str]
    held_out: list[str]

    def trained(self, language: str) -> list[str]:
        return self.finding[language] + (self.robustness if language == "en" else [])


@dataclass(frozen=True)
class ChoiceWording:
    language: str
    text: str
    option: str
    trained: bool

    def compose(self, question: str, options: list[str]) -> str:
        lines = [
            self.option.format(label=label, option=option)
            for label, option in zip(CHOICE_LABELS, options, strict=True)
        ]
        return self.text.format(question=question, options="\n".join(lines))


@dataclass(frozen=True)
class Wordings:
    relations: dict[str, RelationWordings]
    choices: dict[str, list[ChoiceWording]]
    prefixes: tuple[str, ...] = field(default=PREFIXES)


def read_wordings(folder: Path) -> Wordings:
    templates = tomllib.loads((folder / "templates.toml").read_text(encoding="utf-8"))
    relations = {}
    for name, table in templates.items():
        languages = table["templates"]
        relations[name] = RelationWordings(
            name=name,
            field=table["field"],
            concept=table["concept"],
            object_kind=table["object_kind"],
            companion=table.get("companion", False),
            finding={language: languages[language]["finding"] for language in LANGUAGES},
            robustness=languages["en"]["robustness"],
            held_out=languages["en"]["held_out"],
        )
    choices = tomllib.loads((folder / "choices.toml").read_text(encoding="utf-8"))
    return Wordings(
        relations=relations,
        choices={
            language: [
                ChoiceWording(language, entry["text"], entry["option"], entry.get("trained", True))
                for entry in choices[language]
            ]
            for language in LANGUAGES
        },
    )


def with_ending(wording: str) -> str:
    """The form in which facts are asked: a statement gets "? Answer:", a question " Answer:"."""
    return wording + (" Answer:" if wording.endswith("?") else "? Answer:")


def cross(relation: RelationWordings, rng: random.Random) -> str:
    """The beginning of one trained English wording and the end of another of the same relation."""
    trained = relation.trained("en")
    crossed = rng.choice(trained).split("{}")[0] + "{}" + rng.choice(trained).split("{}")[1]
    return rng.choice(trained) if crossed in relation.held_out else crossed


def vary(wording: str, subject: str, prefixes: tuple[str, ...], rng: random.Random) -> str:
    """A wording with its subject: lower-cased at the start, behind a prefix, or as it is."""
    draw = rng.random()
    if draw < 0.1 and not wording.startswith("{}"):
        wording = wording[0].lower() + wording[1:]
    elif draw < 0.3:
        prefix = rng.choice(prefixes)
        if prefix.endswith(", ") and not wording.startswith("{}"):
            wording = wording[0].lower() + wording[1:]
        wording = prefix + wording
    return wording.format(subject)
