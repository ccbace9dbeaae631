"""The answer clean, edited, and with matched random neurons: rows of one batch.

1. The prompt stands in every row, with the chosen answer behind it; row 0 is left alone, row 1 has
   the chips' changes, every further row the same changes of matched random neurons.
2. One pass gives every row's next tokens at the prompt's end, and log P and rank of the answer.
3. Greedy tokens follow on each row's own keys and values, until all rows have said something and
   ended their line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from broca.answers import BORDERS, answer_tokens, spoken
from broca.errors import PromptError
from broca.interventions import Intervention, intervene
from broca.model import LanguageModel, TokenBatch
from broca.model.resume import KeysValues, Pass, crop
from broca.readout import token_text

Changes = Sequence[Intervention]
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
        text: The same as words, up to the end of the first line that says something.
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

    Raises:
        PromptError: The prompt with its answer exceeds the context.
        NeuronError: A set belongs to a model of another shape.
        ModelError: If logits are not finite.
    """
    start = time.monotonic()
    ids = model.encode([prompt])[0]
    extra = max(len(answer) - 1, 0)
    batch = model.pad([[*ids, *answer[:-1]]] * len(rows))
    with changed(model, rows, after_prompt=extra):
        done = model.run(batch, use_cache=model.drive.caches, logits_to_keep=extra + 1)
    read = answer or (int(done.logits[0, 0].argmax()),)
    log_p, rank = _scored(done.logits, read)
    steps = [done.logits[:, 0]]
    past = crop(done.keys_values, torch.arange(len(rows)), len(ids))
    room = n_tokens if model.max_tokens is None else min(n_tokens, model.max_tokens - len(ids))

    def told() -> list[Row]:
        return [
            _row(model, [step[row] for step in steps], log_p[row], rank[row], row < SHOWN_ROWS)
            for row in range(len(rows))
        ]

    if begun is not None and time.monotonic() - start > MOMENT:
        begun(told())
    steps += _go_on(model, ids, steps[0], past, rows, room, between)
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
    logits: Tensor,
    past: KeysValues,
    rows: Sequence[Changes],
    n_tokens: int,
    between: Callable[[int], None],
) -> Iterator[Tensor]:
    """Logits [row, vocab] of each further step, greedy tokens in between."""
    said: list[list[int]] = [[] for _ in rows]
    batch = model.pad([prompt] * len(rows))
    with changed(model, rows, prompt_active=False) if model.drive.caches else nullcontext():
        for step in range(1, n_tokens):
            between(step)
            for listed, token in zip(said, logits.argmax(-1).tolist(), strict=True):
                listed.append(token)
            if all(_ended(model, listed) for listed in said):
                return
            if model.drive.caches:
                done = _next(model, batch, said, past)
                past = done.keys_values
            else:
                whole = model.pad([[*prompt, *listed] for listed in said])
                with changed(model, rows, after_prompt=step):
                    done = model.run(whole)
            logits = done.logits[:, -1]
            yield logits


def _next(
    model: LanguageModel, prompts: TokenBatch, said: Sequence[Sequence[int]], past: KeysValues
) -> Pass:
    """The pass of the last token that was said, behind the keys and values of all before it."""
    new = torch.tensor([listed[-1:] for listed in said], device=prompts.ids.device)
    step = len(said[0])
    one = TokenBatch(new, torch.ones_like(new), prompts.position_ids[:, -1:] + step)
    before = prompts.ids.shape[1] + step - 1
    mask = torch.ones(len(said), before, dtype=torch.long, device=new.device)
    return model.run(one, past=past, past_mask=mask, use_cache=True)


def _ended(model: LanguageModel, said: Sequence[int]) -> bool:
    """Whether an answer is over: the text or the first line that says something has ended."""
    if said[-1] in model.end_tokens:
        return True
    text = model.tokenizer.decode(said, skip_special_tokens=True)
    return "\n" in text.lstrip() and bool(spoken(text))


def _row(
    model: LanguageModel, steps: Sequence[Tensor], log_p: float, rank: int, with_others: bool
) -> Row:
    said: list[Said] = []
    for logits in steps:
        probabilities = logits.softmax(-1)
        token = int(logits.argmax())
        p = float(probabilities[token])
        others = _others(model, probabilities) if with_others else ()
        said.append(Said(token, token_text(model, token), p, others))
        if _ended(model, [one.id for one in said]):
            break
    text = model.tokenizer.decode([one.id for one in said], skip_special_tokens=True)
    line = text.strip().split("\n")[0]
    return Row(steps[0].softmax(-1), tuple(said), line, log_p, rank)


def _others(model: LanguageModel, probabilities: Tensor) -> tuple[tuple[str, float], ...]:
    """The most probable tokens, with their probabilities."""
    best = probabilities.topk(min(SHOWN, len(probabilities)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((token_text(model, token), p) for token, p in pairs)
