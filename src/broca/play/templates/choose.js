// Facts, questions and a run's prompts to choose from.
let listed = 0; // lists asked for: an older reply does not take the place of a newer one

async function listFacts() {
  const group = byId("group").value;
  if (!group) return;
  const mine = ++listed;
  try {
    const form = ownForm() ? "cloze" : state.form;
    const found = await ask("facts", { group, letters: byId("letters").value, form });
    if (mine !== listed) return;
    trouble(null, "listing");
    show("facts", ...found.map((one) => make("li", {}, make("button", { type: "button", onclick: () => chooseFact(one, group) }, one.label))));
  } catch (error) {
    if (mine === listed) trouble(error, "listing");
  }
}

const forms = [...byId("form").options].map((one) => one.value).filter((one) => one !== "own");
const ownForm = () => !forms.includes(state.form);

// A text of one's own stays around a fact; a run's prompt is a whole text and goes without it.
function chooseFact(one, group) {
  const stored = /^(run|questions): /.test(group);
  const form = ownForm() && !stored ? state.form : one.form;
  const left = form === state.form ? null : ownForm() ? "your text around it" : `the form ${state.form}`;
  change({ prompt: one.prompt, answer: one.answer, shots: one.shots, form });
  fill();
  askSoon();
  if (left) note(`Asked in the form ${form}, without ${left}: ${stored ? "a run's prompt is a whole text already." : "this fact cannot be asked otherwise on this model."}`);
}
