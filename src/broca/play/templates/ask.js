// Ask: the prompt, and what the untouched model says, token by token.
let answered = null; // the newest result of /api/answer
let running = null; // what stops the request under way
let wanted = false; // the state has changed since it was sent
let lasting = 0; // milliseconds the last answer took

// One request at a time, always with the newest state. A slow model that is at work already waits
// for typing to pause; one that has nothing to do begins at the first key.
const SLOW = 150; // milliseconds
let pausing = 0;
function askSoon() {
  clearTimeout(pausing);
  askBusy(true);
  pausing = setTimeout(askNow, running && lasting > SLOW ? SLOW : 0);
}

async function askNow() {
  pausing = 0;
  wanted = true;
  if (running) {
    if (lasting > SLOW) running.abort();
    return;
  }
  try {
    while (wanted) {
      wanted = false;
      if (state.prompt.trim()) await answerOnce();
      else {
        trouble(null, "asking");
        noAnswer();
      }
    }
  } finally {
    askBusy(Boolean(pausing));
  }
}

async function answerOnce() {
  running = new AbortController();
  const start = performance.now();
  try {
    const found = await stream("answer", state, (kind, data) => {
      if (kind === "queued") tellQueue(data.ahead);
      if (kind !== "part") return; // its first tokens, before the rest is said
      drawAnswer(data.value);
      underWay("These are its first tokens; the rest is still being said.", false);
    }, running.signal);
    lasting = performance.now() - start;
    drawAnswer(found);
    underWay("", false);
    know(found.marks);
    if (wanted) askBusy(true); // what is drawn is older than the state again
  } catch (error) {
    if (error.name !== "AbortError") {
      noAnswer();
      trouble(error, "asking");
    }
  } finally {
    running = null;
    tellQueue(0);
  }
}

// There is nothing to ask yet: what is under way is left.
function askNothing() {
  clearTimeout(pausing);
  pausing = 0;
  wanted = false;
  if (running) running.abort();
  else askBusy(false);
  noAnswer();
}

function noAnswer() {
  answered = null;
  show("answered");
  drawEdit();
}

// While an answer is computed, what stands there is told to be older, once that lasts.
const PATIENCE = 300; // milliseconds
let telling = 0;
function askBusy(busy) {
  for (const id of ["answered", "edited"]) byId(id).setAttribute("aria-busy", busy);
  byId("csv-edit").disabled = busy || !answered?.edited;
  if (!busy) underWay("", false);
  else if (!telling) {
    telling = setTimeout(() => {
      if (answered) underWay("A new answer is being computed; what stands here is the one before.", true);
      else underWay("The answer is being computed.", false);
    }, PATIENCE);
  }
}

function underWay(words, older) {
  clearTimeout(telling);
  telling = 0;
  for (const place of document.querySelectorAll(".under-way")) place.textContent = words;
  for (const id of ["answered", "edited"]) byId(id).classList.toggle("older", older);
}

function drawAnswer(found) {
  for (const row of [found.clean, found.edited, ...found.draws]) if (row) row.log_p ??= -Infinity; // JSON knows no infinity
  answered = found;
  trouble(null, "asking");
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
