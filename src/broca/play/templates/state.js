// The state: everything shown can be computed again from it. It is a link and a JSON file.
let state = structuredClone(boot.state);
const sizes = new Map(boot.sets.map((one) => [one.name, one.size]));
const marks = new Map(); // of sets that have been asked with: what tells one from another of its name
let madeWith = null; // the model and the sets that an opened state was made with

function packed(value) {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function unpacked(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return JSON.parse(new TextDecoder().decode(Uint8Array.from(plain, (c) => c.charCodeAt(0))));
}

function link() {
  const address = new URL(location.href);
  address.hash = `s=${packed(kept())}`;
  return address.href;
}

// The state with the model and the sets that it was made with.
function kept() {
  const names = state.chips.map((chip) => chip.set).filter((name) => marks.has(name));
  const sets = Object.fromEntries(names.map((name) => [name, marks.get(name)]));
  return { ...state, made_with: { model: boot.model.id, weights: boot.model.fingerprint, sets } };
}

// What an answer says of the sets it was asked with; other sets under the names of an opened state are told.
function know(found) {
  let news = false;
  for (const [name, mark] of Object.entries(found)) {
    news ||= marks.get(name) !== mark;
    marks.set(name, mark);
    const then = madeWith?.sets?.[name];
    if (then && then !== mark) notice(`The set ${name} here is another one than that of this name with which this was made.`);
  }
  if (news) keepInAddress();
}

function notice(text) {
  const place = byId("others");
  if ([...place.children].some((one) => one.textContent === text)) return;
  place.append(make("p", { class: "notice" }, text));
}

function change(changes) {
  state = { ...state, ...changes };
  note(""); // it was about what was done before
  keepInAddress();
}

let writing = 0;
function keepInAddress() {
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", link()), 200);
}
