// A state from an address or a file. Nothing in it is passed over: what is no field of a state, or of another kind, is refused.
const NO_STATE = "This is no state of broca play";
const OF_CHIP = { name: ["a text"], set: ["a text", "null"], neurons: ["a list"], change: ["a text"], factor: ["a number"], origin: ["null", "an object"] };
const OF_ORIGIN = { method: ["a text"], prompt: ["a text"], answer: ["a text"], file: ["a text"] };

const kindOf = (value) => (value === null ? "null" : Array.isArray(value) ? "a list" : { string: "a text", number: "a number", object: "an object" }[typeof value] ?? `a ${typeof value}`);

function checkFields(value, kinds, place) {
  for (const [name, one] of Object.entries(value)) {
    const known = Object.hasOwn(kinds, name) ? kinds[name] : null;
    if (!known) throw new Refusal(`${NO_STATE}: it has no field ${JSON.stringify(place + name)}.`);
    if (!known.includes(kindOf(one))) throw new Refusal(`${NO_STATE}: ${place}${name} is ${kindOf(one)}, not ${known.join(" or ")}.`);
  }
}

function checkChoice(value, choices, name) {
  if (!choices.includes(value)) throw new Refusal(`${NO_STATE}: ${name} is ${JSON.stringify(value)}, none of ${choices.join(", ")}.`);
}

function checkChip(chip, place) {
  if (kindOf(chip) !== "an object") throw new Refusal(`${NO_STATE}: chips.${place} is ${kindOf(chip)}, not an object.`);
  checkFields(chip, OF_CHIP, `chips.${place}.`);
  checkFields(chip.origin ?? {}, OF_ORIGIN, `chips.${place}.origin.`);
  const whole = { ...NEW_CHIP, name: "", ...chip };
  if (!whole.name || (whole.set === null) === !whole.neurons.length) throw new Refusal(`${NO_STATE}: chips.${place} needs a name, and a set or neurons.`);
  if (whole.neurons.some((one) => typeof one !== "string")) throw new Refusal(`${NO_STATE}: chips.${place}.neurons holds something else than texts.`);
  checkChoice(whole.change, CHANGES.map(([name]) => name), `chips.${place}.change`);
  return whole;
}

function checkMade(made) {
  if (made === null) return;
  if (kindOf(made) !== "an object") throw new Refusal(`${NO_STATE}: made_with is ${kindOf(made)}, not an object.`);
  const whole = { model: null, weights: null, sets: {}, ...made };
  checkFields(whole, { model: ["a text"], weights: ["a text"], sets: ["an object"] }, "made_with.");
}

// The whole state that such a value says; numbers and lengths are checked by their fields and by the server.
function taken(value) {
  if (typeof value?.prompt !== "string") throw new Refusal(`${NO_STATE}: it has no prompt.`);
  const { made_with: made = null, ...fields } = value;
  checkMade(made);
  checkFields(fields, Object.fromEntries(Object.entries(boot.state).map(([name, one]) => [name, [kindOf(one)]])), "");
  const whole = { ...structuredClone(boot.state), ...fields };
  if (whole.shots.some((one) => typeof one !== "string")) throw new Refusal(`${NO_STATE}: shots holds something else than texts.`);
  whole.chips = whole.chips.map(checkChip);
  checkChoice(whole.positions, ["all", "last"], "positions");
  if (!whole.form.includes("{wording}")) checkChoice(whole.form, forms, "form");
  byId("others").replaceChildren();
  tellOthers(made);
  if (!boot.methods.some(([name]) => name === whole.method)) {
    notice(`The method ${JSON.stringify(whole.method)} of this state cannot be used here; ${boot.state.method} is chosen.`);
    whole.method = boot.state.method;
  }
  return whole;
}

function tellOthers(made) {
  madeWith = made;
  if (made && made.weights !== boot.model.fingerprint) notice(`This was made with ${made.model} (weights ${made.weights}); here ${boot.model.id} (weights ${boot.model.fingerprint}) is asked.`);
}

function fromLink() {
  if (!location.hash.startsWith("#s=")) return false;
  try {
    state = taken(unpacked(location.hash.slice(3)));
    trouble(null, "opening");
    return true;
  } catch (error) {
    const why = error instanceof Refusal ? `: ${error.message}` : ".";
    trouble(new Refusal(`The state in this address cannot be read${why}`), "opening");
    return false;
  }
}

async function openState(file) {
  try {
    change(taken(JSON.parse(await file.text())));
    trouble(null, "opening");
    fill();
    drawChips();
    askSoon();
  } catch (error) {
    trouble(error instanceof Refusal ? error : new Refusal(`${file.name} is no state of broca play.`), "opening");
  }
}
