// Find: the neurons behind an answer, streamed, to be stopped at any time.
let searching = null;
let found = null;

async function findNeurons() {
  if (searching) return;
  searching = new AbortController();
  found = null;
  const asked = state;
  findBusy(true);
  tellFind("Waiting for the model", 0, 1, null);
  show("found");
  try {
    const result = await stream("find", asked, (kind, data) => {
      if (kind === "queued") tellFind(queueText(data.ahead) || "Waiting for the model", 0, 1, null);
      if (kind === "progress") tellFind(data.what, data.done, data.total, data.left);
      if (kind === "part") show("found", neuronTable(data.value.neurons, "First neurons; their exact effects are being measured."));
    }, searching.signal);
    if (result) {
      found = result;
      trouble(null);
      drawFound();
    }
  } catch (error) {
    if (error.name === "AbortError") show("found", make("p", { class: "hint" }, "Stopped."));
    else {
      show("found");
      trouble(error);
    }
  } finally {
    searching = null;
    findBusy(false);
  }
}

function findBusy(busy) {
  byId("find-progress").hidden = !busy;
  byId("stop-find").hidden = !busy;
  byId("go-find").disabled = busy;
  for (const id of ["csv-find", "graph-find"]) byId(id).disabled = !found;
  if (busy) byId("stop-find").focus();
}

function tellFind(what, done, total, left) {
  byId("find-bar").value = total ? done / total : 0;
  byId("find-words").textContent = left === null ? `${what} …` : `${what}: about ${left < 1 ? "a second" : `${Math.ceil(left)} s`} left`;
}

function neuronTable(neurons, caption) {
  const rows = neurons.map((one) => [
    make("td", {}, make("button", { type: "button", onclick: () => { addNeurons(one.neuron); useNote(one.neuron); } }, one.neuron)),
    numberCell(one.value),
    numberCell(one.effect, one.effect === null ? "…" : number(one.effect)),
    make("td", {}, make("button", { type: "button", "aria-label": `Look at ${one.neuron}`, onclick: () => lookAt(one.neuron) }, "look")),
  ]);
  return table([["neuron: use it", false], ["attribution", true], ["loss of log P without it", true], ["look", false]], rows, caption);
}

function useNote(name) {
  byId("kept").textContent = `${name} is among the sets in use.`;
}

function drawFound() {
  const { neurons, title, seconds, target, agreement, figures } = found;
  const told = agreement === null ? "" : ` Rank correlation of the two numbers: ${number(agreement, 2)}.`;
  const first = (count) => addNeurons(neurons.slice(0, count).map((one) => one.neuron).join(" "), `first ${count} by ${found.method} for ${visible(target.trim())}`);
  show("found",
    make("p", { class: "asked" }, found.asked),
    make("p", {}, `The ${neurons.length} first neurons for “${visible(target.trim()) || "↵"}” by ${title}, in ${seconds.toFixed(1)} s, with what log P really loses without each.${told}`),
    make("div", { class: "row" }, ...[5, 20, neurons.length].filter((n, i, all) => n <= neurons.length && all.indexOf(n) === i).map((count) => make("button", { type: "button", onclick: () => first(count) }, `Use the first ${count}`))),
    neuronTable(neurons, "Click on a neuron to use it. Attribution and exact effect at the prompt's last position."),
    ...figures.map((one) => figure(one, (name) => { addNeurons(name); useNote(name); })));
}
