// Find: the neurons behind an answer, streamed, to be stopped at any time.
let searching = null;
let found = null; // the newest result of /api/find

async function findNeurons() {
  if (searching) return;
  searching = new AbortController();
  found = null;
  const asked = state;
  findBusy(true);
  tellFind("Waiting for the model", 0, 1, null);
  show("found");
  try {
    found = await stream("find", asked, (kind, data) => {
      if (kind === "queued") tellFind(queueText(data.ahead) || "Waiting for the model", 0, 1, null);
      if (kind === "progress") tellFind(data.what, data.done, data.total, data.left);
      if (kind === "part") show("found", neuronTable(data.value, "First neurons; their exact effects are being measured."));
    }, searching.signal);
    trouble(null, "finding");
    drawFound();
    sayFind(`${found.neurons.length} neurons found.`);
  } catch (error) {
    show("found", error.name === "AbortError" ? make("p", { class: "hint" }, "Stopped.") : null);
    sayFind(error.name === "AbortError" ? "Stopped." : "");
    trouble(error, "finding");
  } finally {
    searching = null;
    findBusy(false);
  }
}

function findBusy(busy) {
  const stop = byId("stop-find"), go = byId("go-find");
  const focused = document.activeElement === stop || document.activeElement === go;
  byId("find-progress").hidden = !busy;
  stop.hidden = !busy;
  go.disabled = busy;
  for (const id of ["csv-find", "graph-find"]) byId(id).disabled = !found;
  if (focused) (busy ? stop : go).focus(); // the button that had it is gone
}

function tellFind(what, done, total, left) {
  const words = left === null ? `${what} …` : `${what}: about ${left < 1 ? "a second" : `${Math.ceil(left)} s`} left`;
  byId("find-bar").value = total ? done / total : 0;
  byId("find-words").textContent = words;
  if (performance.now() - lastSaid >= SAY_EVERY) sayFind(words);
}

// Read out now and then only: the words beside the bar change ten times a second.
const SAY_EVERY = 5000; // milliseconds
let lastSaid = -SAY_EVERY;
function sayFind(words) {
  lastSaid = performance.now();
  byId("find-said").textContent = words;
}

// Neurons of a search keep what they were chosen for.
function useFound(of, neurons, more = {}) {
  addNeurons(neurons, { origin: { method: of.method, prompt: of.asked, answer: of.target }, ...more });
}

function neuronTable(of, caption) {
  const rows = of.neurons.map((one) => [
    make("td", {}, make("button", { type: "button", onclick: () => useFound(of, [one.neuron]) }, one.neuron)),
    numberCell(one.value),
    numberCell(one.effect, one.effect === null ? "…" : number(one.effect)),
    make("td", {}, make("button", { type: "button", "aria-label": `Look at ${one.neuron}`, onclick: () => lookAt(one.neuron) }, "look")),
  ]);
  return table([["neuron: use it", false], ["attribution", true], ["loss of log P without it", true], ["look", false]], rows, caption);
}

function drawFound() {
  const { neurons, title, seconds, target, agreement, figures } = found;
  const n = neurons.length;
  const told = agreement === null ? "" : ` Rank correlation of the two numbers: ${number(agreement, 2)}, over these ${n} neurons, which the attribution itself has put first; among all neurons it may be another.`;
  const first = (count) => useFound(found, neurons.slice(0, count).map((one) => one.neuron), { name: `first ${count} by ${found.method} for ${visible(target.trim())}` });
  show("found",
    make("p", { class: "asked" }, found.asked),
    make("p", {}, `The ${n} first neurons for ${quoted(target)} by ${title}, in ${seconds.toFixed(1)} s, with what log P really loses without each.${told}`),
    make("div", { class: "row" }, ...[5, 20, n].filter((one, i, all) => one <= n && all.indexOf(one) === i).map((count) => make("button", { type: "button", onclick: () => first(count) }, `Use the first ${count}`))),
    neuronTable(found, `Click on a neuron to use it. ${found.n_answer === 1 ? "The exact effect is that of the neuron at the prompt's last position." : `The exact effect is the sum over the ${found.n_answer} tokens of the answer, each without the neuron at the last position before it.`}`),
    ...figures.map((one) => figure(one, (name) => useFound(found, [name]))));
}
