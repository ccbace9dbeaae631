// A neuron: what it promotes, where it is strongest, what it serves.
let looking = null;

async function lookAt(name) {
  byId("which").value = name;
  if (looking) looking.abort();
  const mine = (looking = new AbortController());
  byId("looked").setAttribute("aria-busy", "true");
  byId("neuron").scrollIntoView();
  try {
    const result = await stream("neuron", { neuron: name.trim(), state }, (kind, data) => {
      if (kind === "queued") show("looked", make("p", { class: "hint" }, queueText(data.ahead)));
      if (kind === "progress") show("looked", make("p", { class: "hint" }, `${data.what}: ${data.done} of ${data.total}`));
    }, mine.signal);
    if (looking === mine) {
      trouble(null, "looking");
      drawNeuron(result);
    }
  } catch (error) {
    if (looking === mine && error.name !== "AbortError") {
      show("looked");
      trouble(error, "looking");
    }
  } finally {
    if (looking === mine) byId("looked").setAttribute("aria-busy", "false");
  }
}

function drawNeuron(one) {
  const parts = [
    make("h3", {}, one.neuron),
    make("div", { class: "row" }, make("button", { type: "button", onclick: () => addNeurons([one.neuron]) }, "Use it")),
  ];
  if (one.tokens) {
    const positive = one.neuron.startsWith("hidden:") ? "it is positive" : "the hidden value of its unit is positive, whatever its own sign";
    const listed = (name, title) => table([[title, false], ["by", true]], one.tokens[name].map(([token, by]) => [make("td", {}, visible(token)), numberCell(by, number(by, 2))]), `Tokens that it ${title} when ${positive}`);
    parts.push(make("p", {}, `Its value vector is ${number(one.tokens.length, 2)} times as long as the mean of its layer.`), make("div", { class: "two" }, listed("raises", "raises"), listed("lowers", "lowers")));
  } else parts.push(make("p", {}, "A neuron of this site has no value vector, hence no tokens."));
  if (one.firings.length) {
    parts.push(make("h3", {}, `Where it is strongest, of ${one.n_prompts} prompts`),
      table([["value", true], ["prompt", false], ["about", false]], one.firings.map((firing) => [numberCell(firing.value, number(firing.value, 2)), make("td", {}, fires(firing), firedValues(firing)), make("td", {}, firing.about)]), "Underlined: the token on which it is strongest. Red: positive, blue: negative; the fullest colour is the largest value of that prompt, whatever its size."));
  }
  for (const [kind, rows] of Object.entries(one.means)) {
    if (rows.length) parts.push(table([[kind, false], ["mean |value|", true], ["mean", true], ["prompts", true]], rows.map((row) => [make("td", {}, row.group), numberCell(row.size), numberCell(row.mean), numberCell(row.count, String(row.count))]), `By ${kind}: its strongest value in each prompt`));
  }
  parts.push(one.served.length
    ? table([["set", false], ["as", false], ["rank", true], ["of", true], ["score", true]], one.served.map((row) => [make("td", {}, make("button", { type: "button", onclick: () => addSet(row.name) }, row.name)), make("td", {}, row.site), numberCell(row.rank, String(row.rank)), numberCell(row.size, row.size.toLocaleString("en")), numberCell(row.score)]), "Sets that hold it")
    : make("p", {}, "None of the sets here holds it."));
  show("looked", ...parts, ...one.figures.map((each) => figure(each)));
}

function fires(firing) {
  const largest = Math.max(...firing.values.map(Math.abs), 1e-12);
  return make("p", { class: "fires" }, ...firing.tokens.map((token, at) => {
    const share = firing.values[at] / largest;
    const colour = share > 0 ? "209, 73, 91" : "76, 155, 214";
    return make("mark", { class: at === firing.position ? "here" : "", title: number(firing.values[at]), style: { background: `rgba(${colour}, ${(0.55 * Math.abs(share)).toFixed(3)})` } }, visible(token));
  }));
}

function firedValues(firing) {
  return inNumbers(firing.tokens.map((token, at) => `${visible(token)} ${number(firing.values[at], 2)}`));
}
