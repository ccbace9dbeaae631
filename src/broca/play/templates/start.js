// Fields and state, tied together.
function fill() {
  const own = ownForm();
  byId("prompt").value = state.prompt;
  byId("form").value = own ? "own" : state.form;
  byId("own").value = own ? state.form : "{wording}";
  byId("answer").value = state.answer;
  byId("tokens").value = state.tokens;
  byId("draws").value = state.draws;
  byId("shots").value = state.shots.join("\n");
  byId("method").value = state.method;
  for (const radio of document.getElementsByName("positions")) radio.checked = radio.value === state.positions;
  formFields();
  for (const id of ["tokens", "draws"]) usable(byId(id), "");
}

function formFields() {
  byId("own-form").hidden = byId("form").value !== "own";
  byId("shots-field").hidden = state.form !== "few-shot";
}

function on(id, kind, act) {
  byId(id).addEventListener(kind, act);
}

function tie(id, key, read) {
  on(id, "input", () => {
    const field = byId(id);
    if (!usable(field)) return;
    change({ [key]: read(field.value) });
    askSoon();
  });
}

tie("prompt", "prompt", String);
tie("answer", "answer", String);
tie("tokens", "tokens", Number);
tie("draws", "draws", Number);
tie("own", "form", String);
tie("shots", "shots", (text) => text.split("\n").filter((line) => line.trim()));
on("method", "input", () => change({ method: byId("method").value }));
on("form", "input", () => {
  const chosen = byId("form").value;
  const form = chosen === "own" ? byId("own").value : chosen;
  change({ form, shots: form === "few-shot" ? state.shots : [] });
  fill();
  if (document.querySelector(".chooser").open) {
    show("facts"); // those listed are put in the form before
    listFacts();
  }
  if (form !== "few-shot" || state.shots.length) return askSoon();
  askNothing();
  return note("Few-shot shows lines before the prompt, each with its answer. Type some, or choose a fact.");
});
for (const radio of document.getElementsByName("positions")) {
  radio.addEventListener("input", () => { change({ positions: radio.value }); askSoon(); });
}

const entered = (id, act) => on(id, "keydown", (event) => { if (event.key === "Enter") act(); });
const useSet = () => addSet(byId("set").value.trim());
const lookTyped = () => lookAt(byId("which").value.trim());
for (const id of ["set", "typed", "set-name"]) on(id, "input", () => trouble(null, id)); // it was about what stood there
on("add-set", "click", useSet);
entered("set", useSet);
on("add-typed", "click", addTyped);
entered("typed", addTyped);
on("set-file", "change", (event) => { if (event.target.files[0]) addFile(event.target.files[0]); event.target.value = ""; });
on("group", "input", listFacts);
on("letters", "input", listFacts);
document.querySelector(".chooser").addEventListener("toggle", (event) => { if (event.target.open && !byId("facts").children.length) listFacts(); });
on("close-told", "click", closeTold);
on("go-find", "click", findNeurons);
on("stop-find", "click", () => searching && searching.abort());
on("look", "click", lookTyped);
entered("which", lookTyped);
for (const kind of ["link", "python", "command"]) on(`copy-${kind}`, "click", () => keepAs(kind));
on("save-state", "click", () => download("broca-play.json", JSON.stringify(kept(), null, 1), "application/json"));
on("open-state", "change", (event) => { if (event.target.files[0]) openState(event.target.files[0]); event.target.value = ""; });
if (byId("keep-set")) on("keep-set", "click", () => keepSet("save"));
on("download-set", "click", () => keepSet("set"));
on("csv-edit", "click", () => download("answers.csv", answersCsv(), "text/csv"));
on("csv-find", "click", () => download("neurons.csv", found.csv, "text/csv"));
on("graph-find", "click", () => download("graph.json", JSON.stringify(found.graph), "application/json"));
// A link within the page keeps the state in the address.
for (const anchor of document.querySelectorAll("a[data-part]")) {
  anchor.addEventListener("click", (event) => {
    event.preventDefault();
    const part = byId(anchor.hash.slice(1));
    part.scrollIntoView();
    part.querySelector("input, textarea, select, button").focus({ preventScroll: true });
  });
}
window.addEventListener("hashchange", () => { if (fromLink()) { fill(); drawChips(); askSoon(); } });

byId("sets").append(...boot.sets.map((one) => make("option", { value: one.name }, `${one.size} neurons, ${one.method}`)));
byId("group").append(...boot.groups.map((one) => make("option", { value: one.name }, `${one.name} (${one.size})`)));
byId("method").append(...boot.methods.map(([name, title]) => make("option", { value: name }, title)));
fromLink();
fill();
drawChips();
if (state.prompt) askSoon();
