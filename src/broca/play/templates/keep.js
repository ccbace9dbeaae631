// Keep: links, files, code.
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
    return trouble(null, "keeping");
  } catch (error) {
    return trouble(error, "keeping");
  }
}

async function keepSet(route) {
  const name = byId("set-name").value.trim();
  trouble(name ? null : new Refusal("Give the set a name."), "set-name");
  if (!name) return byId("set-name").focus();
  if (!state.chips.length) return trouble(new Refusal("There are no neurons in use to make a set of."), "keeping");
  try {
    const made = await ask(route, { name, chips: state.chips });
    trouble(null, "keeping");
    if (route === "set") {
      download(`${name.replace(/[^\w .-]+/g, "_")}.json`, JSON.stringify(made.file), "application/json");
      return note(`${made.size} neurons downloaded as a neuron set.`);
    }
    knowSet(made.name, made.size);
    return note(`${made.size} neurons saved: ${made.path}`);
  } catch (error) {
    return trouble(error, "keeping");
  }
}

function knowSet(name, size) {
  sizes.set(name, size);
  byId("sets").append(make("option", { value: name }, `${size} neurons`));
}

function answersCsv() {
  const { clean, edited, draws, target, about } = answered;
  const row = (condition, one) => [condition, one.text, target, one.log_p, one.rank];
  const rows = [["condition", "answer", "measured", "log_p", "rank_of_first_token"], row("untouched", clean), row("edited", edited), ...draws.map((one, i) => row(`matched ${i}`, one))];
  const tokens = answered.compared.map((one) => [one.token, one.clean, one.edited, ...one.draws]);
  return csv([...Object.entries(about), [], ...rows, [], ["token", "p_untouched", "p_edited", ...draws.map((_, i) => `p_matched_${i}`)], ...tokens]);
}
