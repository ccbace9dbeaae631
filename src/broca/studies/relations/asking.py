"""How a run's facts are put to the model: one form, one pool of demonstrations, one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from broca.facts import Relation
from broca.prompts import Prompt, render_fact_prompts
from broca.prompts.forms import Chat


@dataclass(frozen=True)
class Asking:
    """Renders facts as prompts of a run.

    Attributes:
        form: Form of asking.
        shots: Demonstrations of the few-shot forms.
        template_set: Wordings.
        seed: Draws wordings and demonstrations.
        pool: Relation -> the detection facts that demonstrations are drawn from.
        chat: The model's chat template, None where it has none.
    """

    form: str
    shots: int
    template_set: str
    seed: int
    pool: Mapping[str, Relation]
    chat: Chat | None = None

    def lacks_shots(self, relation: str) -> bool:
        """Whether some fact of a relation has too few of other subjects to be shown before it."""
        if self.form != "few-shot":
            return False
        subjects = Counter(fact.subject.casefold() for fact in self.pool[relation].facts)
        return subjects.total() - max(subjects.values(), default=0) < self.shots

    def render(
        self,
        relations: Relation | Mapping[str, Relation],
        *,
        role: str,
        template_set: str | None = None,
        pool: Mapping[str, Relation] | None = None,
    ) -> list[Prompt]:
        """Ask for facts, one prompt each.

        Args:
            relations: The facts.
            role: Written into the prompts.
            template_set: Other wordings.
            pool: Other facts for demonstrations, such as those of another language.

        Raises:
            FactsError: A relation lacks the wordings.
            PromptError: There are fewer facts than demonstrations.
        """
        return render_fact_prompts(
            relations,
            template_set=template_set or self.template_set,
            form=self.form,
            shots=self.shots,
            demonstrations=self.pool if pool is None else pool,
            chat=self.chat,
            seed=self.seed,
            role=role,
        )
