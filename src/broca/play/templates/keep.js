// Keep: links, files, code.
const note = (text) => { byId("kept").textContent = text; };

function showCode(text) {
  byId("code").textContent = text;
  byId("code").hidden = false;
}

async function keepAs(kind) {
  try {
    if (kind === "link") {
      showCode(link());
      return copy(link(), "The link");
    }
    const { python, command, missing } = await ask("code", state);
    const text = kind === "python" ? python : command;
    showCode(text);
    await copy(text, kind === "python" ? "The code" : "The command");
    if (kind === "command" && missing.length) note(`${byId("kept").textContent} ${missing.join(" ")}`);
    trouble(null);
  } catch (error) {
    trouble(error);
  }
}

async function keepSet(route) {
  const name = byId("set-name").value.trim();
  if (!name) return trouble(new Refusal("Give the set a name."));
  if (!state.chips.length) return trouble(new Refusal("There are no neurons in use to make a set of."));
  try {
    const made = await ask(route, { name, chips: state.chips });
    trouble(null);
    if (route === "set") {
      download(`${name.replace(/[^\w .-]+/g, "_")}.json`, JSON.stringify(made.file), "application/json");
      return note(`${made.size} neurons downloaded as a neuron set.`);
    }
    knowSet(made.name, made.size);
    return note(`${made.size} neurons saved: ${made.path}`);
  } catch (error) {
    return trouble(error);
  }
}

function knowSet(name, size) {
  sizes.set(name, size);
  byId("sets").append(make("option", { value: name }, `${size} neurons`));
}

async function openState(file) {
  try {
    change(taken(JSON.parse(await file.text())));
    fill();
    drawChips();
    askSoon();
  } catch (error) {
    trouble(error instanceof Refusal ? error : new Refusal(`${file.name} is no state of broca play.`));
  }
}

function answersCsv() {
  const { clean, edited, draws, target } = answered;
  const rows = [["condition", "answer", "measured", "log_p", "rank"], ["untouched", clean.text, target, clean.log_p, clean.rank], ["edited", edited.text, target, edited.log_p, edited.rank], ...draws.map((row, i) => [`matched ${i}`, row.text, target, row.log_p, row.rank])];
  const tokens = answered.compared.map((one) => [one.token, one.clean, one.edited, ...one.draws]);
  return csv([...rows, [], ["token", "p_untouched", "p_edited", ...draws.map((_, i) => `p_matched_${i}`)], ...tokens]);
}
