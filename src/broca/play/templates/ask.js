// Ask: the prompt, and what the untouched model says, token by token.
let answered = null; // the newest result of /api/answer
let running = null; // what stops the request under way
let wanted = false; // the state has changed since it was sent
let lasting = 0; // milliseconds the last answer took

// One request at a time, always with the newest state; a slow model waits for typing to pause.
const SLOW = 150; // milliseconds
let pausing = 0;
function askSoon() {
  clearTimeout(pausing);
  pausing = setTimeout(askNow, lasting > SLOW ? SLOW : 0);
}

async function askNow() {
  wanted = true;
  if (running) {
    if (lasting > SLOW) running.abort();
    return;
  }
  for (const id of ["answered", "edited"]) byId(id).setAttribute("aria-busy", "true");
  while (wanted) {
    wanted = false;
    if (!state.prompt.trim()) {
      answered = null;
      show("answered");
      drawEdit();
      break;
    }
    running = new AbortController();
    const start = performance.now();
    try {
      const found = await stream("answer", state, (kind, data) => {
        if (kind === "queued") tellQueue(data.ahead);
        if (kind === "part") drawAnswer(data.value); // its first tokens, before the rest is said
      }, running.signal);
      lasting = performance.now() - start;
      if (found) {
        drawAnswer(found);
        know(found.marks);
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        answered = null;
        show("answered");
        drawEdit();
        trouble(error);
      }
    } finally {
      running = null;
      tellQueue(0);
    }
  }
  for (const id of ["answered", "edited"]) byId(id).setAttribute("aria-busy", "false");
}

function drawAnswer(found) {
  for (const row of [found.clean, found.edited, ...found.draws]) if (row) row.log_p ??= -Infinity; // JSON knows no infinity
  answered = found;
  trouble(null);
  drawAsk();
  drawEdit();
}

let place = 0; // the token whose alternatives are shown
function drawAsk() {
  const { clean } = answered;
  place = Math.min(place, clean.said.length - 1);
  const alternatives = make("div");
  const choose = (at) => {
    place = at;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === at));
    alternatives.replaceChildren(instead(clean.said[at]));
  };
  const buttons = clean.said.map((one, at) =>
    make("button", { type: "button", "aria-pressed": false, onclick: () => choose(at), title: "What else it could have said here" },
      visible(one.text) || "∅", make("small", {}, percent(one.p))));
  show("answered",
    make("p", { class: "asked" }, answered.asked),
    /[ \t]$/.test(answered.asked) ? make("p", { class: "hint" }, "It ends in white space. Most tokenizers put a word's space into the word, so what follows is less likely than without it.") : null,
    make("h3", {}, "It says"),
    make("ul", { class: "said", "aria-label": "The answer, token by token" }, ...buttons.map((button) => make("li", {}, button))),
    alternatives);
  choose(place);
}

function instead(said) {
  const rows = said.instead.map(([token, p]) => bar(token, percent(p), null,
    make("div", { class: "mark clean alone", style: { width: `${100 * p}%` } })));
  return make("div", { class: "bars", role: "group", "aria-label": "Next tokens with their probabilities" }, ...rows);
}

// ---- facts and questions to choose from

async function listFacts() {
  const group = byId("group").value;
  if (!group) return;
  try {
    const form = state.form.includes("{wording}") ? "cloze" : state.form;
    const found = await ask("facts", { group, letters: byId("letters").value, form });
    show("facts", ...found.map((one) => make("li", {}, make("button", { type: "button", onclick: () => chooseFact(one) }, one.label))));
  } catch (error) {
    trouble(error);
  }
}

function chooseFact(one) {
  change({ prompt: one.prompt, answer: one.answer, shots: one.shots, form: one.form });
  fill();
  askSoon();
}
