"""The answer clean, edited, and with matched random neurons: rows of one batch.

1. The prompt stands in every row, with the chosen answer behind it; row 0 is left alone, row 1 has
   the chips' changes, every further row the same changes of matched random neurons. What the prompt
   shares with the one before it is not computed again.
2. One pass gives every row's next tokens at the prompt's end, and log P and rank of the answer.
3. Greedy tokens follow on each row's own keys and values, until every row has said something and
   ended its line; where a draft of an answer is known, several of them in one pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from broca.answers import BORDERS, answer_tokens
from broca.choices.continuations import check_continuations
from broca.errors import PromptError
from broca.interventions import intervene
from broca.model import LanguageModel, TokenBatch
from broca.model.resume import KeysValues, Pass, crop
from broca.play.before import Before, Changes
from broca.play.drafts import Drafts, filled, width
from broca.play.speaking import Said, Speaker

SHOWN_ROWS = 2  # rows of which other tokens are shown: clean and edited
FULL = 8  # rows of a batch in which nothing is lost
MOMENT = 0.15  # seconds after which a part of the answer is worth showing


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
        between: Called with the number of tokens that every row has said, before each further
            pass; may raise.
        begun: Told the rows when each has said something, if that took longer than a moment.
        before: The prompt before; this one takes its place.

    Raises:
        PromptError: The prompt with its answer exceeds the context.
        NeuronError: A set belongs to a model of another shape.
        ModelError: If logits are not finite.
    """
    start = time.monotonic()
    ids = model.encode([prompt])[0]
    room = n_tokens if model.max_tokens is None else min(n_tokens, model.max_tokens - len(ids))
    rows, asked = [*rows, *_beside(len(rows))], len(rows)
    speakers = [
        Speaker(model, room if row < asked else 1, row < SHOWN_ROWS) for row in range(len(rows))
    ]
    before = before or Before()
    drafts = before.drafts(ids)
    known = before.shared(model, ids, rows)
    new = _first_fed(ids[known:], drafts, answer, len(rows), room)
    behind = len(new[0]) - len(ids) + known
    with changed(model, rows, after_prompt=behind):
        done = _behind(model, crop(before.past, None, known), known, new, behind + 1)
    read = answer or (int(done.logits[0, 0].argmax()),)
    log_p, rank = _scored(done.logits, read)
    first = done.logits[:, 0].softmax(-1)
    for speaker, logits, tokens in zip(speakers, done.logits, new, strict=True):
        speaker.go_on(logits, tokens[len(ids) - known :])

    def told() -> list[Row]:
        own = zip(speakers[:asked], first, log_p, rank, strict=False)
        return [Row(p, tuple(s.said), s.line, log, place) for s, p, log, place in own]

    if begun is not None and time.monotonic() - start > MOMENT:
        begun(told())
    before.keep(ids, rows, crop(done.keys_values, None, len(ids)))
    _go_on(model, ids, speakers, rows, done.keys_values, drafts, between)
    before.said = [speaker.ids for speaker in speakers[:asked]]
    return told()


def _beside(n_rows: int) -> list[Changes]:
    """Untouched rows that nobody asks about, so that there are eight.

    Products of seven rows take up to a third longer than of eight, for which processors have
    registers; an answer with five matched draws has seven.
    """
    return [()] if n_rows == FULL - 1 else []


def _first_fed(
    prompt: Sequence[int], drafts: Drafts, answer: tuple[int, ...], n_rows: int, room: int
) -> list[list[int]]:
    """What is read of each row, alike much: the prompt, and the answer or a draft that has it."""
    forced = list(answer[:-1])
    listed = [drafts.of(row, (), room - 1) for row in range(n_rows)]
    tails = [draft if draft[: len(forced)] == forced else forced for draft in listed]
    n_tokens = max(width([len(tokens) for tokens in tails]), len(forced))
    return [filled([*prompt, *tokens], len(prompt) + n_tokens) for tokens in tails]


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
    at = logits[:, : len(answer)].log_softmax(-1)[:, torch.arange(len(answer)), tokens]
    first = logits[:, 0]
    rank = (first > first[:, tokens[0], None]).sum(-1) + 1
    return at.sum(-1).tolist(), rank.tolist()


def _go_on(
    model: LanguageModel,
    prompt: Sequence[int],
    speakers: Sequence[Speaker],
    rows: Sequence[Changes],
    past: KeysValues,
    drafts: Drafts,
    between: Callable[[int], None],
) -> None:
    """Further tokens, greedily, until every row is over.

    All rows are read from the last token on that the slowest of them has said: what the others said
    is read again, as a draft that holds. Rows that are over leave the batch when they are half of
    it: a pass of a few rows less costs hardly less, and the changes of those that stay have to be
    set up again.
    """
    caches, several = model.drive.caches, check_continuations(model)
    there, set_up = [*range(len(rows))], None  # rows in the batch, rows whose changes are set up
    with ExitStack() as hooks:
        while going := [row for row in there if not speakers[row].over]:
            least = min(len(speakers[row].said) for row in going)
            between(least)
            known = least - 1 if caches else 0  # tokens said that are not read again
            length = len(prompt) + known
            if 2 * len(going) <= len(there) or not caches:
                places = torch.tensor([there.index(row) for row in going])
                past, there = crop(past, places, length), going
            fed = _fed(speakers, there, known, drafts, several or not caches)
            if caches:
                if there != set_up:
                    hooks.close()
                    own = [rows[row] for row in there]
                    hooks.enter_context(changed(model, own, prompt_active=False))
                    set_up = there
                done = _behind(model, crop(past, None, length), length, fed, len(fed[0]))
                past = done.keys_values
            else:
                with changed(model, [rows[row] for row in there], after_prompt=len(fed[0])):
                    whole = model.pad([[*prompt, *tokens] for tokens in fed])
                    done = model.run(whole, logits_to_keep=len(fed[0]))
            for row, tokens, logits in zip(there, fed, done.logits, strict=True):
                own_last = len(speakers[row].said) - known - 1
                if not speakers[row].over and own_last < len(tokens):
                    speakers[row].go_on(logits[own_last:], tokens[own_last + 1 :])


def _fed(
    speakers: Sequence[Speaker], there: Sequence[int], known: int, drafts: Drafts, several: bool
) -> list[list[int]]:
    """What is read of each row behind the tokens known, alike much: what it said, and its draft."""
    tails, wanted = [], []
    for row in there:
        speaker = speakers[row]
        said = speaker.ids
        if speaker.over:
            tails.append(said[known:] or said[-1:])
            continue
        draft = drafts.of(row, said, speaker.room - 1 - len(said))
        tails.append([*said[known:], *draft])
        wanted.append(len(tails[-1]))
    n_tokens = width(wanted) if several else 1
    return [filled(tokens, n_tokens) for tokens in tails]


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
