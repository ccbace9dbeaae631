"""Which neurons make the embedded model choose this letter, and what doubling them does."""

from __future__ import annotations

import broca


def main() -> broca.Attributions:
    """Print the strongest neurons of a few questions, with the figures that say how exact."""
    model = broca.LanguageModel.from_pretrained("atlas")
    questions = broca.load_questions("atlas", languages=("en",), per_field=1, seed=0)
    prompts = broca.render_question_prompts(questions, n_prompts=1)
    attributions = broca.attribute_neurons(model, prompts, progress=False)
    for prompt, attribution in zip(prompts, attributions, strict=True):
        layer, index = divmod(int(attribution.values.argmax()), attribution.values.shape[1])
        strongest = broca.Neuron("hidden", layer, index)
        neurons = broca.NeuronSet.of([strongest], model.identity)
        token = attribution.target[0]
        with broca.intervene(model, broca.Scale(neurons, 2.0, "last")):
            doubled = float(model.probabilities([prompt.text])[0, token])
        print(
            f"{prompt.field:10s} P {attribution.probability:.3f}, {strongest} doubled "
            f"{doubled:.3f}; sum off by {attribution.completeness_error:.1%}, "
            f"neurons by {attribution.step_change:.1%}"
        )
    return attributions


if __name__ == "__main__":
    main()
