// Edit: sets as chips, and the answer clean, edited and with matched random neurons.
function addChip(given) {
  const chip = { change: "off", factor: 2, set: null, neurons: [], ...given };
  const holds = (one) => JSON.stringify([one.set, one.neurons]);
  if (state.chips.some((one) => holds(one) === holds(chip))) return note(`${chip.name} is among the sets in use already.`);
  for (let number = 2; state.chips.some((one) => one.name === chip.name); number++) chip.name = `${given.name} (${number})`;
  change({ chips: [...state.chips, chip] });
  drawChips();
  askSoon();
}

function addSet(name) {
  if (!sizes.has(name)) return trouble(new Refusal(`There is no set ${JSON.stringify(name)} here. Choose one of the list.`));
  trouble(null);
  addChip({ name, set: name });
  byId("set").value = "";
}

function addNeurons(text, name) {
  const neurons = text.split(/[\s,;]+/).filter(Boolean);
  const wrong = neurons.find((one) => !/^\w+:\d+:\d+$/.test(one));
  if (!neurons.length || wrong) return trouble(new Refusal(`${JSON.stringify(wrong ?? text)} is not a neuron. Write it as site:layer:index, e.g. hidden:3:17.`));
  trouble(null);
  const distinct = [...new Set(neurons)];
  addChip({ name: name ?? (distinct.length === 1 ? distinct[0] : `${distinct[0]} and ${distinct.length - 1} more`), neurons: distinct });
  byId("typed").value = "";
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
    addNeurons(neurons.join(" "), content.name || file.name);
    if (other.fingerprint !== known.fingerprint) notice(`${file.name} was found in other weights of the same shape: ${other.id} (weights ${other.fingerprint}).`);
  } catch (error) {
    trouble(error instanceof Refusal ? error : new Refusal(`${file.name} cannot be read as a neuron set.`));
  }
}

const sorted = (object) => Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1));

function drawChips() {
  const put = (at, changes) => {
    change({ chips: state.chips.map((chip, i) => (i === at ? { ...chip, ...changes } : chip)) });
    askSoon();
  };
  show("chips", ...state.chips.map((chip, at) => {
    const size = chip.set === null ? chip.neurons.length : sizes.get(chip.set);
    const factor = make("input", { type: "number", step: "any", min: "-1000", max: "1000", value: chip.factor, "aria-label": `Factor of ${chip.name}`, hidden: chip.change !== "scale",
      oninput: (event) => { if (usable(event.target)) put(at, { factor: Number(event.target.value) }); } });
    const item = make("li", { class: `chip ${chip.change}` });
    const how = make("select", { "aria-label": `What is done with ${chip.name}`, onchange: (event) => {
      put(at, { change: event.target.value });
      factor.hidden = event.target.value !== "scale";
      item.className = `chip ${event.target.value}`;
    } }, ...[["off", "switched off"], ["scale", "× factor"], ["mean", "at its mean"], ["none", "left alone"]].map(([value, name]) => make("option", { value, selected: value === chip.change }, name)));
    item.append(
      make("span", { class: "name" }, chip.name),
      make("span", { class: "size" }, size === undefined ? "not here" : `${size.toLocaleString("en")} neuron${size === 1 ? "" : "s"}`),
      how, factor,
      ...(chip.neurons.length === 1 ? [make("button", { type: "button", onclick: () => lookAt(chip.neurons[0]) }, "Look")] : []),
      make("button", { type: "button", "aria-label": `Remove ${chip.name}`, onclick: () => {
        change({ chips: state.chips.filter((_, i) => i !== at) });
        drawChips();
        askSoon();
      } }, "Remove"));
    return item;
  }));
}

const low = (values) => Math.min(...values);
const high = (values) => Math.max(...values);
const range = (values, write) => (write(low(values)) === write(high(values)) ? write(low(values)) : `${write(low(values))} to ${write(high(values))}`);

function side(kind, title, rows) {
  const texts = [...new Set(rows.map((row) => row.text || "(nothing)"))];
  const counted = texts.map((text) => {
    const count = rows.filter((row) => (row.text || "(nothing)") === text).length;
    return rows.length > 1 && texts.length > 1 ? `${text}  (${count} of ${rows.length})` : text;
  });
  const p = rows.map((row) => Math.exp(row.log_p)), logs = rows.map((row) => row.log_p), ranks = rows.map((row) => row.rank);
  return make("div", { class: `side ${kind}` },
    make("h3", {}, title),
    make("div", { class: "words" }, counted.join("\n")),
    make("div", { class: "figures" }, "P ", make("b", {}, range(p, percent)), make("br"), `log P ${range(logs, (v) => number(v, 2))}`, make("br"), `rank ${range(ranks, (v) => v.toLocaleString("en"))}`));
}

const ROUNDING = 1e-4; // log P by which rows of one batch may differ that are the same

// What the numbers say, with what so few draws can tell.
function verdict() {
  const { clean, edited, draws, target, neurons } = answered;
  const before = Math.exp(clean.log_p), after = Math.exp(edited.log_p), chance = draws.map((row) => Math.exp(row.log_p));
  const logs = draws.map((row) => row.log_p);
  const outside = edited.log_p < low(logs) - ROUNDING || edited.log_p > high(logs) + ROUNDING;
  const moved = `P of “${visible(target.trim()) || "↵"}” goes from ${percent(before)} to ${percent(after)} with ${neurons.toLocaleString("en")} neuron${neurons === 1 ? "" : "s"} changed`;
  const beside = `with as many matched random ones it is ${range(chance, percent)} in ${draws.length} draws`;
  const told = outside ? `outside of what chance does here (at best 1 in ${draws.length + 1} with so few draws).` : "within what chance does here.";
  return `${moved}; ${beside}: ${told}`;
}

function drawEdit() {
  byId("csv-edit").disabled = !(answered && answered.edited);
  if (!answered || !answered.edited) {
    const words = state.chips.length ? "No set changes anything." : "Use a set, and the answer without it stands here, beside the answer without as many random neurons of the same layers and sites.";
    show("edited", make("p", { class: "hint" }, words));
    return;
  }
  const { clean, edited, draws, compared, target, chosen } = answered;
  const rows = compared.map((one) => bar(one.token, `${percent(one.clean)} → ${percent(one.edited)}`,
    `untouched ${percent(one.clean)}, edited ${percent(one.edited)}, matched ${range(one.draws, percent)}`,
    make("div", { class: "band", style: { left: `${100 * low(one.draws)}%`, width: `${100 * (high(one.draws) - low(one.draws))}%` } }),
    make("div", { class: "mark clean", style: { width: `${100 * one.clean}%` } }),
    make("div", { class: "mark edited", style: { width: `${100 * one.edited}%` } })));
  show("edited",
    make("p", { class: "verdict" }, verdict()),
    make("div", { class: "sides" },
      side("clean", "Untouched", [clean]),
      side("edited", "Edited", [edited]),
      side("matched", `Matched random, ${draws.length} draws`, draws)),
    make("p", { class: "hint" }, `P, log P and rank are those of “${visible(target.trim()) || "↵"}”, ${chosen ? "the answer chosen above" : "the model's own first token"}.`),
    make("h3", {}, "What changed in the next token"),
    make("ul", { class: "key" }, make("li", {}, "untouched"), make("li", { class: "edited" }, "edited"), make("li", { class: "matched" }, "matched random: lowest to highest")),
    make("div", { class: "bars" }, ...rows));
}
