"""What a page may ask for: plain values with limits, the same in links, files and requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from broca.errors import BrocaError, NeuronError, PlayError
from broca.neurons import Neuron

LONGEST_TEXT = 8_000  # letters of a prompt; the model's context limits its tokens
LONGEST_ANSWER = 1_000
LONGEST_ASKED = 400_000  # a prompt with all lines that may be shown before it
LONGEST_NAME = 200
MOST_NEURONS = 20_000  # typed into one chip; those of all chips have to fit into a request
MOST_CHIPS = 32
MOST_SHOTS = 32
MOST_TOKENS = 64  # of an answer
LEAST_DRAWS, MOST_DRAWS = 5, 20
LARGEST_FACTOR = 1_000.0

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


def _neuron(text: str) -> str:
    """The text of a neuron as broca writes it."""
    try:
        return str(Neuron.parse(text))
    except NeuronError as error:
        raise ValueError(str(error)) from None


class _Plain(BaseModel):
    """Values as they come, nothing converted, nothing unknown."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Origin(_Plain):
    """Where neurons that are named one by one come from; it is written into sets made of them.

    Attributes:
        method: How they were found.
        prompt: The prompt they were found for, as the model read it.
        answer: The answer they were found for.
        file: The name of the file they were read from.
    """

    method: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    prompt: Annotated[str, Field(max_length=LONGEST_ASKED)] = ""
    answer: Annotated[str, Field(max_length=LONGEST_ANSWER)] = ""
    file: Annotated[str, Field(max_length=LONGEST_NAME)] = ""


class Chip(_Plain):
    """A neuron set in use, and what is done with its neurons.

    Attributes:
        name: What it is called.
        set: The name of a set that the server has; None where `neurons` are named.
        neurons: Neurons such as `hidden:3:17`.
        origin: Where `neurons` come from; None where they were typed.
        change: `off`, `scale` (times `factor`), `mean` (its mean over other prompts), or `none`.
        factor: See `change`.
    """

    name: Name
    set: Name | None = None
    neurons: tuple[Annotated[str, Field(max_length=40), AfterValidator(_neuron)], ...] = Field(
        default=(), strict=False, max_length=MOST_NEURONS
    )
    origin: Origin | None = None
    change: Literal["off", "scale", "mean", "none"] = "off"
    factor: Annotated[
        float, Field(ge=-LARGEST_FACTOR, le=LARGEST_FACTOR, allow_inf_nan=False, strict=False)
    ] = 2.0

    @model_validator(mode="after")
    def _one_source(self) -> Chip:
        if (self.set is None) == (not self.neurons):
            raise ValueError("a chip names a set or neurons")
        if len(set(self.neurons)) != len(self.neurons):
            raise ValueError("a neuron is named twice")
        return self


class State(_Plain):
    """Everything that a page shows can be computed again from this.

    Attributes:
        prompt: What is asked, as typed.
        form: Form of asking, see :data:`broca.prompts.FORMS`.
        shots: Lines shown before the prompt in the form few-shot.
        answer: The answer whose log P and rank are read; the model's own first token where empty.
        chips: Sets in use.
        positions: Where they are changed: at `all` positions, or the prompt's `last`.
        draws: Matched random draws beside each edit.
        tokens: Tokens of an answer at most.
        method: How neurons are found, see :data:`broca.locators.LOCATORS`.
    """

    prompt: Text = ""
    form: Text = "cloze"
    shots: tuple[Text, ...] = Field(default=(), strict=False, max_length=MOST_SHOTS)
    answer: Annotated[str, Field(max_length=LONGEST_ANSWER)] = ""
    chips: tuple[Chip, ...] = Field(default=(), strict=False, max_length=MOST_CHIPS)
    positions: Literal["all", "last"] = "all"
    draws: Annotated[int, Field(ge=LEAST_DRAWS, le=MOST_DRAWS)] = LEAST_DRAWS
    tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 8
    method: Annotated[str, Field(max_length=LONGEST_NAME)] = "ig"

    @property
    def active(self) -> tuple[Chip, ...]:
        """Chips that change something."""
        return tuple(chip for chip in self.chips if chip.change != "none")


class NeuronAsked(_Plain):
    """A neuron to look at, beside the chips it may stand in."""

    neuron: Annotated[str, Field(max_length=40), AfterValidator(_neuron)]
    state: State = State()


class FactsAsked(_Plain):
    """Facts of a group, or those in whose subject or answer some letters stand."""

    group: Name
    letters: Annotated[str, Field(max_length=LONGEST_NAME)] = ""
    form: Text = "cloze"


class SetAsked(_Plain):
    """The neurons of some chips as one set, under a name."""

    name: Name
    chips: tuple[Chip, ...] = Field(strict=False, min_length=1, max_length=MOST_CHIPS)


Asked = TypeVar("Asked", bound=BaseModel)
_NO_MEMORY = ("out of memory", "can't allocate memory")  # as torch says it, on a GPU and elsewhere


def read_asked(kind: type[Asked], content: Any) -> Asked:
    """What a page asks for.

    Raises:
        PlayError: It is something else; says what and where.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the request"
        told = first["msg"].removeprefix("Value error, ")
        raise PlayError(f"{place}: {told[:1].lower()}{told[1:300]}") from None


def refusal(error: BaseException, what: str = "The model stopped") -> str:
    """A mistake as the page tells it.

    Args:
        error: The mistake.
        what: What came of it, if it is none of broca's own.
    """
    if isinstance(error, BrocaError):
        return str(error)
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return f"{what}: there is not enough memory. Shorten the prompt, or lower draws or tokens."
    return f"{what}: {type(error).__name__}: {str(error).strip()[:300]}"
