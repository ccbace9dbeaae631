"""Find the neurons of two relations on the embedded model and switch them off, in a few lines."""

from __future__ import annotations

import broca


def main() -> dict[str, dict[str, float]]:
    """Print the accuracy of each relation with every set off."""
    model = broca.LanguageModel.from_pretrained("atlas")
    names = ["person_father", "person_sport_position", "star_constellation"]
    relations = broca.load_relations("atlas", relations=names)
    detection, evaluation = relations.split(n_evaluation=25, seed=0)

    prompts = broca.render_fact_prompts(detection)
    responses = broca.record_responses(model, prompts, sites=("gate", "up", "down"))
    labels = [prompt.relation for prompt in prompts]
    sets = {}
    for name in names:
        labelling = broca.draw_negatives(labels, name, ratio=4, seed=0)
        scores = broca.score_expertise(responses, labelling.positive, labelling.included)
        sets[name] = scores.top(300, name=name)

    conditions: dict[str, broca.Deactivate | None] = {"untouched": None}
    for name, neurons in sets.items():
        conditions[f"{name} off"] = broca.Deactivate(neurons)
        conditions[f"{name} matched"] = broca.Deactivate(neurons.matched_random(seed=0))
    asked = broca.render_fact_prompts(evaluation)
    relation_of = {prompt.id: prompt.relation for prompt in asked}
    right: dict[str, dict[str, list[bool]]] = {c: {n: [] for n in names} for c in conditions}
    for row in broca.answer_prompts(model, asked, conditions):
        right[row.condition][relation_of[row.prompt]].append(row.correct)
    accuracy = {
        condition: {name: sum(rows) / len(rows) for name, rows in by_name.items()}
        for condition, by_name in right.items()
    }
    for condition, by_name in accuracy.items():
        print(f"{condition:32s}", *(f"{name} {value:.2f}" for name, value in by_name.items()))
    return accuracy


if __name__ == "__main__":
    main()
