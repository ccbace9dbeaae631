// Edit: sets as chips, and the answer clean, edited and with matched random neurons.
const CHANGES = [["off", "switched off"], ["scale", "× factor"], ["mean", "at its mean"], ["none", "left alone"]];
const NEW_CHIP = { change: "off", factor: 2, set: null, neurons: [], origin: null };

function addChip(given) {
  const chip = { ...NEW_CHIP, ...given };
  const holds = (one) => JSON.stringify([one.set, one.neurons]);
  if (state.chips.some((one) => holds(one) === holds(chip))) return note(`${chip.name} is among the sets in use already.`);
  for (let number = 2; state.chips.some((one) => one.name === chip.name); number++) chip.name = `${given.name} (${number})`;
  change({ chips: [...state.chips, chip] });
  drawChips();
  askSoon();
  const { bottom, top } = byId("chips").getBoundingClientRect();
  if (bottom < 0 || top > innerHeight) note(`${chip.name} is among the sets in use.`); // out of sight
}

function addSet(name) {
  if (!sizes.has(name)) return trouble(new Refusal(`There is no set ${JSON.stringify(name)} here. Choose one of the list.`), "set");
  trouble(null, "set");
  addChip({ name, set: name });
  byId("set").value = "";
}

function neuronsOf(text) {
  const neurons = text.split(/[\s,;]+/).filter(Boolean);
  const wrong = neurons.find((one) => !/^\w+:\d+:\d+$/.test(one));
  if (!neurons.length || wrong) throw new Refusal(`${JSON.stringify(wrong ?? text)} is not a neuron. Write it as site:layer:index, e.g. hidden:3:17.`);
  return [...new Set(neurons)];
}

// A chip of neurons; `more` says what else is known of them.
function addNeurons(neurons, more = {}) {
  addChip({ name: neurons.length === 1 ? neurons[0] : `${neurons[0]} and ${neurons.length - 1} more`, neurons, ...more });
}

function addTyped() {
  try {
    addNeurons(neuronsOf(byId("typed").value));
    trouble(null, "typed");
    byId("typed").value = "";
  } catch (error) {
    trouble(error, "typed");
  }
}

async function addFile(file) {
  try {
    const content = JSON.parse(await file.text());
    if (content.format !== "broca.neuron-set") throw new Refusal(`${file.name} is no neuron set.`);
    const known = boot.model;
    const other = content.model;
    const shape = (model) => JSON.stringify([model.n_layers, sorted(model.widths), model.experts ?? []]);
    if (shape(other) !== shape(known)) throw new Refusal(`${file.name} was found in ${other.id}, a model of another shape than ${known.id}.`);
    const neurons = content.site.map((site, i) => `${site}:${content.layer[i]}:${content.index[i]}`);
    addNeurons(neuronsOf(neurons.join(" ")), { name: content.name || file.name, origin: { method: content.method ?? "", file: file.name, ...foundFor(content) } });
    trouble(null, "set-file");
    if (other.fingerprint !== known.fingerprint) {
      const told = `${file.name} was found in other weights of the same shape: ${other.id} (weights ${other.fingerprint}).`;
      notice(told);
      note(told); // the notice stands at the top, out of sight
    }
  } catch (error) {
    trouble(error instanceof Refusal ? error : new Refusal(`${file.name} cannot be read as a neuron set.`), "set-file");
  }
}

// A set that was made on a page of one prompt's neurons says which prompt that was.
function foundFor(content) {
  const parts = content.settings?.made_of;
  if (!Array.isArray(parts) || !parts.length) return {};
  const [{ prompt, answer }] = parts;
  return prompt && parts.every((part) => part.prompt === prompt) ? { prompt, answer } : {};
}

const sorted = (object) => Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1));

function drawChips() {
  for (const one of byId("chips").querySelectorAll("input")) trouble(null, one.id); // fields show what is in use again
  show("chips", ...state.chips.map(chipItem));
}

function changeChip(at, changes) {
  change({ chips: state.chips.map((chip, i) => (i === at ? { ...chip, ...changes } : chip)) });
  askSoon();
}

function chipItem(chip, at) {
  const size = chip.set === null ? chip.neurons.length : sizes.get(chip.set);
  const factor = make("input", { id: `factor-${at}`, type: "number", step: "any", min: "-1000", max: "1000", value: chip.factor, "aria-label": `Factor of ${chip.name}`, hidden: chip.change !== "scale",
    oninput: (event) => { if (usable(event.target)) changeChip(at, { factor: Number(event.target.value) }); } });
  const item = make("li", { class: `chip ${chip.change}` });
  const how = make("select", { "aria-label": `What is done with ${chip.name}`, onchange: (event) => {
    changeChip(at, { change: event.target.value });
    factor.hidden = event.target.value !== "scale";
    item.className = `chip ${event.target.value}`;
  } }, ...CHANGES.map(([value, name]) => make("option", { value, selected: value === chip.change }, name)));
  item.append(
    make("span", { class: "name" }, chip.name),
    make("span", { class: "size" }, size === undefined ? "not here" : `${size.toLocaleString("en")} neuron${size === 1 ? "" : "s"}`),
    how, factor,
    ...(chip.neurons.length === 1 ? [make("button", { type: "button", onclick: () => lookAt(chip.neurons[0]) }, "Look")] : []),
    make("button", { type: "button", class: "remove", "aria-label": `Remove ${chip.name}`, onclick: () => removeChip(at) }, "Remove"));
  return item;
}

function removeChip(at) {
  change({ chips: state.chips.filter((_, i) => i !== at) });
  drawChips();
  const left = byId("chips").querySelectorAll(".remove");
  (left[Math.min(at, left.length - 1)] ?? byId("set")).focus(); // the button that had it is gone
  askSoon();
}
