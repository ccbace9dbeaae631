"""The answer clean, edited, and with matched random neurons: rows of one batch.

1. The prompt stands in every row, with the chosen answer behind it; row 0 is left alone, row 1 has
   the chips' changes, every further row the same changes of matched random neurons. What the prompt
   shares with the one before it is not computed again.
2. One pass gives every row's next tokens at the prompt's end, and log P and rank of the answer.
3. Greedy tokens follow on each row's own keys and values, until every row has said something and
   ended its line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from broca.answers import BORDERS, answer_tokens, spoken
from broca.errors import PromptError
from broca.interventions import intervene
from broca.model import LanguageModel, TokenBatch
from broca.model.resume import KeysValues, Pass, crop
from broca.play.before import Before, Changes
from broca.readout import token_text

SHOWN = 8  # next tokens shown of each step
SHOWN_ROWS = 2  # rows of which they are shown: clean and edited
MOMENT = 0.15  # seconds after which a part of the answer is worth showing


@dataclass(frozen=True)
class Said:
    """One token of an answer.

    Attributes:
        id: The token.
        text: As text.
        p: Its probability when it was said.
        instead: The most probable tokens at that place, with their probabilities; of the first
            two rows alone.
    """

    id: int
    text: str
    p: float
    instead: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Row:
    """What one row of the batch said.

    Attributes:
        next: Probability of every next token at the prompt's end, float32 [vocab].
        said: The greedy answer, token by token.
        text: The same as words: the first line that says something.
        log_p: Natural log of P of the whole chosen answer.
        rank: Rank of its first token at the prompt's end, from 1.
    """

    next: Tensor
    said: tuple[Said, ...]
    text: str
    log_p: float
    rank: int


def chosen_answer(model: LanguageModel, prompt: str, answer: str) -> tuple[int, ...]:
    """Tokens of an answer behind a prompt: with or without a space, whichever is likelier.

    Of an empty answer there are none.

    Raises:
        PromptError: It has no tokens of its own there, or prompt and answer exceed the context.
    """
    if not answer.strip():
        return ()
    found = [answer_tokens(model, prompt, answer.strip(), border) for border in BORDERS]
    variants = list(dict.fromkeys(tokens for tokens in found if tokens))
    if not variants:
        raise PromptError(
            f"The answer {answer!r} has no tokens of its own",
            mend="The tokenizer merges it with the prompt; end the prompt differently.",
        )
    model.check_length([*model.encode([prompt])[0], *max(variants, key=len)], prompt)
    if len({tokens[0] for tokens in variants}) == 1:
        return variants[0]
    probabilities = model.probabilities([prompt])[0]
    return max(variants, key=lambda tokens: float(probabilities[tokens[0]]))


def own_token(model: LanguageModel, prompt: str) -> tuple[int]:
    """The first token that the untouched model says."""
    return (int(model.probabilities([prompt])[0].argmax()),)


@dataclass
class _Speaker:
    """A row while it speaks.

    Attributes:
        model: Who speaks.
        shown: Whether other tokens are shown at each step.
        next: Probability of every next token at the prompt's end, float32 [vocab].
        said: The tokens so far.
        over: Whether the text, or the first line that says something, has ended.
    """

    model: LanguageModel
    shown: bool
    next: Tensor
    said: list[Said] = field(default_factory=list)
    over: bool = False

    @property
    def ids(self) -> list[int]:
        """The tokens so far."""
        return [one.id for one in self.said]

    def say(self, token: int, probabilities: Tensor) -> None:
        """One more token."""
        others = _others(self.model, probabilities) if self.shown else ()
        text = token_text(self.model, token)
        self.said.append(Said(token, text, float(probabilities[token]), others))
        self.over = _ended(self.model, self.ids)

    def row(self, log_p: float, rank: int) -> Row:
        """What it has said so far."""
        text = self.model.tokenizer.decode(self.ids, skip_special_tokens=True)
        lines = text.strip().split("\n")
        line = next((line for line in lines if spoken(line)), lines[0])
        return Row(self.next, tuple(self.said), line, log_p, rank)


@torch.no_grad()
def answer_rows(
    model: LanguageModel,
    prompt: str,
    answer: tuple[int, ...],
    rows: Sequence[Changes],
    *,
    n_tokens: int,
    between: Callable[[int], None] = lambda step: None,
    begun: Callable[[list[Row]], None] | None = None,
    before: Before | None = None,
) -> list[Row]:
    """Answer one prompt under several changes at once.

    Args:
        model: The model under study.
        prompt: The text as the model reads it.
        answer: Tokens of the answer whose log P is read; where there are none, the first token
            that the first row says.
        rows: The changes of each row; an empty one leaves it alone.
        n_tokens: Tokens said at most.
        between: Called with the number of tokens said, before each further one; may raise.
        begun: Told the rows when each has said one token, if that took longer than a moment.
        before: The prompt before; this one takes its place.

    Raises:
        PromptError: The prompt with its answer exceeds the context.
        NeuronError: A set belongs to a model of another shape.
        ModelError: If logits are not finite.
    """
    start = time.monotonic()
    ids = model.encode([prompt])[0]
    extra = max(len(answer) - 1, 0)
    before = before or Before()
    known = before.shared(model, ids, rows)
    new = [[*ids[known:], *answer[:-1]]] * len(rows)
    with changed(model, rows, after_prompt=extra):
        done = _behind(model, crop(before.past, None, known), known, new, extra + 1)
    read = answer or (int(done.logits[0, 0].argmax()),)
    log_p, rank = _scored(done.logits, read)
    first = done.logits[:, 0].softmax(-1)
    speakers = [_Speaker(model, row < SHOWN_ROWS, p) for row, p in enumerate(first)]
    _say(speakers, done.logits[:, 0])

    def told() -> list[Row]:
        return [speaker.row(log_p[row], rank[row]) for row, speaker in enumerate(speakers)]

    if begun is not None and time.monotonic() - start > MOMENT:
        begun(told())
    past = crop(done.keys_values, None, len(ids))
    before.keep(ids, rows, past)
    room = n_tokens if model.max_tokens is None else min(n_tokens, model.max_tokens - len(ids))
    _go_on(model, ids, speakers, rows, past, range(1, room), between)
    return told()


@contextmanager
def changed(model: LanguageModel, rows: Sequence[Changes], **where: object) -> Iterator[None]:
    """Make every row's changes, in their order."""
    with ExitStack() as stack:
        for number in range(max(map(len, rows), default=0)):
            each = [changes[number] if number < len(changes) else None for changes in rows]
            stack.enter_context(intervene(model, rows=each, **where))  # type: ignore[arg-type]
        yield


def _scored(logits: Tensor, answer: Sequence[int]) -> tuple[list[float], list[int]]:
    """Log P of the answer and rank of its first token, by logits [row, token, vocab]."""
    tokens = torch.tensor(answer, device=logits.device)
    at = logits.log_softmax(-1)[:, torch.arange(len(answer)), tokens]
    first = logits[:, 0]
    rank = (first > first[:, tokens[0], None]).sum(-1) + 1
    return at.sum(-1).tolist(), rank.tolist()


def _go_on(
    model: LanguageModel,
    prompt: Sequence[int],
    speakers: Sequence[_Speaker],
    rows: Sequence[Changes],
    past: KeysValues,
    steps: Iterable[int],
    between: Callable[[int], None],
) -> None:
    """Further tokens, greedily.

    Rows that are over leave the batch when they are half of it: a pass of a few rows less costs
    hardly less, and the changes of those that stay have to be set up again.
    """
    there, set_up = [*range(len(rows))], None  # rows in the batch, rows whose changes are set up
    with ExitStack() as hooks:
        for step in steps:
            going = [row for row in there if not speakers[row].over]
            if not going:
                return
            between(step)
            if model.drive.caches:
                length = len(prompt) + step - 1
                if 2 * len(going) <= len(there):
                    places = torch.tensor([there.index(row) for row in going])
                    past, there = crop(past, places, length), going
                if there != set_up:
                    hooks.close()
                    own = [rows[row] for row in there]
                    hooks.enter_context(changed(model, own, prompt_active=False))
                    set_up = there
                done = _behind(model, past, length, [speakers[row].ids[-1:] for row in there])
                past = done.keys_values
            else:
                there = going
                with changed(model, [rows[row] for row in there], after_prompt=step):
                    done = model.run(model.pad([[*prompt, *speakers[row].ids] for row in there]))
            _say([speakers[row] for row in there], done.logits[:, -1])


def _say(speakers: Sequence[_Speaker], logits: Tensor) -> None:
    """One more token of each that is not over, the likeliest, by logits [row, vocab]."""
    tokens = logits.argmax(-1).tolist()
    for speaker, token, p in zip(speakers, tokens, logits.softmax(-1), strict=True):
        if not speaker.over:
            speaker.say(token, p)


def _behind(
    model: LanguageModel,
    past: KeysValues,
    length: int,
    tokens: Sequence[Sequence[int]],
    logits_to_keep: int = 1,
) -> Pass:
    """The pass of each row's tokens, alike many, behind the keys and values of those before."""
    if not length:
        caches = model.drive.caches
        return model.run(model.pad(tokens), use_cache=caches, logits_to_keep=logits_to_keep)
    new = torch.tensor(tokens, device=model.device)
    places = torch.arange(length, length + new.shape[1], device=model.device)
    return model.run(
        TokenBatch(new, torch.ones_like(new), places.expand_as(new)),
        past=past,
        past_mask=new.new_ones(len(new), length),
        use_cache=True,
        logits_to_keep=logits_to_keep,
    )


def _ended(model: LanguageModel, said: Sequence[int]) -> bool:
    """Whether an answer is over: the text or the first line that says something has ended."""
    if said[-1] in model.end_tokens:
        return True
    text = model.tokenizer.decode(said, skip_special_tokens=True)
    return "\n" in text.lstrip() and bool(spoken(text))


def _others(model: LanguageModel, probabilities: Tensor) -> tuple[tuple[str, float], ...]:
    """The most probable tokens, with their probabilities."""
    best = probabilities.topk(min(SHOWN, len(probabilities)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((token_text(model, token), p) for token, p in pairs)
