"""Ask prompts under many conditions: the greedy answer, log P and rank of the right one.

1. Prompts of similar length form left-padded batches; the tokens of the measured answer follow
   each prompt, so that one pass gives log P, and the greedy tokens for as long as they are the
   answer's own, and one more.
2. The layers below the first one that a condition edits run once for all conditions; each
   condition goes on from the rows that enter that layer. Conditions that begin at the same layer
   stand beside each other in a pass, a block of rows each, as many as there is room for.
3. Where these tokens do not decide whether the answer is right (`broca.answers.targets`), or are
   too few to show, further ones are run on the condition's keys and values.

Source: paper B, sections 2 and 4 (accuracy of two greedy tokens); log P beside it is ours.
"""

from broca.measurements.answers import AnswerRow, answer_prompts

__all__ = ["AnswerRow", "answer_prompts"]
