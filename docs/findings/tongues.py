"""How many facts of five relations Gemma 3 270M answers rightly, language by language.

    python docs/findings/tongues.py

asks the evaluation facts of recipes/relations/real-languages.toml, also in the languages that it
leaves out, and writes the table "asked_in" of docs/findings/gemma3-relations.json.
"""

from __future__ import annotations

import json
from pathlib import Path

from broca.facts import load_relations
from broca.measurements import answer_prompts
from broca.model import LanguageModel
from broca.prompts import render_fact_prompts

HERE = Path(__file__).parent
MODEL = HERE.parent.parent / "models" / "gemma-3-270m-q4_k_m.gguf"
LANGUAGES = ("en", "de", "es", "fr", "zh", "ja")


def main() -> None:
    path = HERE / "gemma3-relations.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    settings, model = kept["settings"], LanguageModel.from_pretrained(str(MODEL))
    table = []
    for language in LANGUAGES:
        relations = load_relations(
            settings["facts"], language=language, relations=settings["relations"]
        )
        shown, asked = relations.split(settings["n_evaluation"], settings["seed"])
        prompts = render_fact_prompts(
            asked,
            form=settings["form"],
            shots=settings["shots"],
            demonstrations=shown,
            seed=settings["seed"],
        )
        rows = answer_prompts(model, prompts, {"untouched": None}, with_log_p=False)
        right = sum(row.correct for row in rows)
        table.append({"language": language, "n": len(prompts), "right": right})
    kept["tables"]["asked_in"] = table
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
