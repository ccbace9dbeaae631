"""Which generated tokens are a right answer.

1. Every right answer is tokenised behind its prompt, with and without a space.
2. How many of its tokens are compared is the **match**:

   * `prefix`: two, as in paper B;
   * `auto`: as many as tell it apart from the wrong objects of its relation, and at least two. A
     space that is a token of its own counts for nothing: in " 1879" of ' ', '1', '8', '7', '9'
     the first two tokens say only that it is a number that begins with 1;
   * `whole`: all of them.

3. Where a wrong object goes on where a right answer ends ("Niger" and "Niger Delta"), `auto` and
   `whole` read on until it is clear which one was said.

Source: arXiv 2502.17355, section 3 (two tokens); the other two are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

from broca.answers.objects import ObjectTokens
from broca.answers.tokens import BORDERS, answer_tokens, n_blank
from broca.errors import PromptError
from broca.model import LanguageModel
from broca.progress import track
from broca.prompts import Prompt

Match = Literal["auto", "prefix", "whole"]
MATCHES: tuple[Match, ...] = get_args(Match)

N_PREFIX = 2  # tokens of the papers' test, and of the text that is shown at least

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """The right answers of a prompt as tokens.

    Attributes:
        prompt: Token ids of the prompt.
        right: Every token sequence that counts as right, over objects and borders.
        measured: The sequences whose probabilities add up to P of the answer: one per object, none
            of which begins with another one (whoever says the longer one has said the shorter).
        compared: How many tokens of each of `right` are compared.
        longer: Wrong objects that begin with a whole right answer.
        n_shown: Tokens that are generated at least, for the text.
        alike: Wrong objects of the relation that this test takes for right.
    """

    prompt: Tokens
    right: tuple[Tokens, ...]
    measured: tuple[Tokens, ...]
    compared: tuple[int, ...]
    longer: tuple[Tokens, ...] = ()
    n_shown: int = N_PREFIX
    alike: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return (
            f"<Target: {len(self.right)} right token sequences behind {len(self.prompt)} tokens, "
            f"{max(self.compared, default=0)} tokens compared at most>"
        )

    def verdict(self, generated: Sequence[int]) -> bool | None:
        """Whether generated tokens are a right answer; None where more tokens are needed."""
        given = tuple(generated)
        found = [
            self._verdict(given, right, n)
            for right, n in zip(self.right, self.compared, strict=True)
        ]
        if True in found:
            return True
        return None if None in found else False

    def is_correct(self, generated: Sequence[int]) -> bool:
        """Whether generated tokens are a right answer; too few to tell are none."""
        return self.verdict(generated) is True

    def _verdict(self, given: Tokens, right: Tokens, n: int) -> bool | None:
        if given[:n] != right[: min(n, len(given))]:
            return False
        if len(given) < n:
            return None
        if n < len(right):
            return True
        ongoing = [other for other in self.longer if other[: len(right)] == right]
        if any(given[: len(other)] == other for other in ongoing):
            return False
        return None if any(other[: len(given)] == given for other in ongoing) else True


def find_targets(
    model: LanguageModel, prompts: Sequence[Prompt], border: str, match: Match = "auto"
) -> list[Target]:
    """Tokens of each prompt and of its right answers.

    Args:
        model: The model under study.
        prompts: Prompts with answers.
        border: ``" "`` or ``""``: how the answer whose P is measured begins.
        match: See the module.

    Raises:
        PromptError: If a prompt with an answer does not fit the context, if an answer has no
            tokens of its own after the prompt, with or without a space, or if there is no such
            match.
    """
    if match not in MATCHES:
        raise PromptError(f"There is no match {match!r}", mend=f"Use {', '.join(MATCHES)}.")
    known = _KNOWN.setdefault(model, {})
    objects = ObjectTokens(model)
    found = []
    for prompt in track(prompts, "Reading answers"):
        key = (prompt.text, prompt.answers, prompt.objects, border, match)
        if key not in known:
            if len(known) >= _MOST_KNOWN:
                known.clear()
            known[key] = _target(model, prompt, border, match, objects)
        found.append(known[key])
    return found


_KNOWN: WeakKeyDictionary[LanguageModel, dict[tuple[Any, ...], Target]] = WeakKeyDictionary()
_MOST_KNOWN = 20_000  # targets kept: studies ask the same prompts again and again


def _target(
    model: LanguageModel, prompt: Prompt, border: str, match: Match, objects: ObjectTokens
) -> Target:
    ids = model.encode([prompt.text])[0]
    right: list[Tokens] = []
    measured: list[Tokens] = []
    for answer in prompt.answers:
        variants = {b: answer_tokens(model, prompt.text, answer, b) for b in BORDERS}
        found = [variants[b] for b in (border, *BORDERS) if variants[b]]
        if not found:
            raise PromptError(
                f"The answer {answer!r} has no tokens of its own",
                repr(prompt.text),
                "The tokenizer merges it with the prompt; end the prompt differently.",
            )
        right += [tokens for tokens in dict.fromkeys(found) if tokens not in right]
        measured.append(found[0])
        model.check_length([*ids, *found[0]], prompt.text + border + answer)
    wrong = objects.rivals(prompt)
    others = [tokens for variants in wrong.values() for tokens in variants]
    target = Target(
        prompt=tuple(ids),
        right=tuple(right),
        measured=without_continuations(measured),
        compared=tuple(_n_compared(model, one, others, match) for one in right),
        longer=() if match == "prefix" else tuple(_longer(right, others)),
        n_shown=max([N_PREFIX, *map(len, right)]) if match == "whole" else N_PREFIX,
    )
    alike = [o for o, variants in wrong.items() if any(map(target.is_correct, variants))]
    return replace(target, alike=tuple(alike))


def _n_compared(model: LanguageModel, right: Tokens, others: Sequence[Tokens], match: Match) -> int:
    if match == "whole":
        return len(right)
    least = N_PREFIX
    if match == "auto":
        shared = (n_shared(right, other) + 1 for other in others)
        least = max(n_blank(model, right) + N_PREFIX, *shared, 0)
    return min(least, len(right))


def n_shared(one: Tokens, other: Tokens) -> int:
    """Length of the common beginning."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _longer(right: Sequence[Tokens], others: Sequence[Tokens]) -> Iterable[Tokens]:
    return (o for o in others if any(len(o) > len(r) and o[: len(r)] == r for r in right))


def without_continuations(sequences: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """The sequences of which no other one is a beginning: as events they exclude each other."""
    known = set(sequences)
    return tuple(
        sequence
        for sequence in dict.fromkeys(sequences)
        if not any(sequence[:length] in known for length in range(1, len(sequence)))
    )
