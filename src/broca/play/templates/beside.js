// The edited answer beside the untouched one and those with matched random neurons.
const low = (values) => Math.min(...values);
const high = (values) => Math.max(...values);
const range = (values, write) => (write(low(values)) === write(high(values)) ? write(low(values)) : `${write(low(values))} to ${write(high(values))}`);
const quoted = (token) => `“${visible(token.trim() || token) || "∅"}”`;

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

// Where an edit lies among the draws. Among n + 1 exchangeable values one is the lowest in 1 of n + 1
// cases, and the lowest or the highest in 2. "About": draws avoid the edited neurons, not each other.
function among(edited, draws) {
  const below = edited < low(draws) - ROUNDING, above = edited > high(draws) + ROUNDING;
  if (!below && !above) return "within the range of the draws.";
  const here = below ? "below" : "above", cases = draws.length + 1;
  return `${here} all of them. By chance alone about 2 in ${cases} edits lie outside of ${draws.length} draws, below or above; 1 in ${cases} lies ${here}, which is the number to read only if ${here} was expected beforehand.`;
}

function verdict() {
  const { clean, edited, draws, target, neurons } = answered;
  const before = Math.exp(clean.log_p), after = Math.exp(edited.log_p), chance = draws.map((row) => Math.exp(row.log_p));
  const moved = `P of ${quoted(target)} goes from ${percent(before)} to ${percent(after)} with ${neurons.toLocaleString("en")} neuron${neurons === 1 ? "" : "s"} changed`;
  const beside = `with as many matched random ones it is ${range(chance, percent)} in ${draws.length} draws`;
  return `${moved}; ${beside}: the edit lies ${among(edited.log_p, draws.map((row) => row.log_p))}`;
}

// A set that was chosen on a prompt moves that prompt's answer because it was chosen so.
function circular() {
  const { circular: names } = answered;
  if (!names.length) return null;
  return make("p", { class: "hint circular" }, `${names.join(", ")}: chosen by Find on this very prompt, so the effect here is no test of anything else. Ask another prompt with the same neurons.`);
}

function noEdit() {
  if (!state.chips.length) return "Use a set, and the answer without it stands here, beside the answer without as many random neurons of the same layers and sites.";
  return answered ? "No set changes anything." : "There is no answer yet.";
}

function drawEdit() {
  if (!answered || !answered.edited) return show("edited", make("p", { class: "hint" }, noEdit()));
  const { clean, edited, draws, target, chosen } = answered;
  return show("edited",
    make("p", { class: "verdict" }, verdict()),
    circular(),
    make("div", { class: "sides" },
      side("clean", "Untouched", [clean]),
      side("edited", "Edited", [edited]),
      side("matched", `Matched random, ${draws.length} draws`, draws)),
    make("p", { class: "hint matching" }, "Matched: as many neurons of the same layers and sites, whole units together, outside of all chips. They are not matched on activation: neurons that respond more strongly may do more whatever they hold."),
    make("p", { class: "hint" }, `P and log P are those of the whole of ${quoted(target)}, ${chosen ? "the answer chosen above" : "the model's own first token"}; rank is that of its first token.`),
    answered.mean_of ? make("p", { class: "hint" }, `Means are over the last tokens of ${answered.mean_of} other prompts.`) : null,
    make("h3", {}, "What changed in the next token"),
    make("ul", { class: "key" }, make("li", {}, "untouched"), make("li", { class: "edited" }, "edited"), make("li", { class: "matched" }, "matched random: lowest to highest")),
    make("div", { class: "bars beside" }, ...answered.compared.map(compared)));
}

function compared(one) {
  const matched = `matched ${range(one.draws, percent)}`;
  return bar(one.token, [`${percent(one.clean)} → ${percent(one.edited)}`, make("small", {}, matched)],
    `untouched ${percent(one.clean)}, edited ${percent(one.edited)}, ${matched}`,
    make("div", { class: "band", style: { left: `${100 * low(one.draws)}%`, width: `${100 * (high(one.draws) - low(one.draws))}%` } }),
    make("div", { class: "mark clean", style: { width: `${100 * one.clean}%` } }),
    make("div", { class: "mark edited", style: { width: `${100 * one.edited}%` } }));
}
