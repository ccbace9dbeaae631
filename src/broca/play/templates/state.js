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

// Only known fields of known kinds are taken over; the server checks them again.
function taken(value) {
  const found = structuredClone(boot.state);
  if (typeof value?.prompt !== "string") throw new Refusal("This is no state of broca play.");
  for (const key of Object.keys(found)) {
    if (key in value && typeof value[key] === typeof found[key]) found[key] = value[key];
  }
  const listed = Array.isArray(found.chips) && Array.isArray(found.shots);
  if (!listed || !found.chips.every(isChip)) throw new Refusal("This is no state of broca play.");
  madeWith = value.made_with ?? null;
  byId("others").replaceChildren();
  const { model, weights } = madeWith ?? {};
  if (madeWith && weights !== boot.model.fingerprint) notice(`This was made with ${model} (weights ${weights}); here ${boot.model.id} (weights ${boot.model.fingerprint}) is asked.`);
  return found;
}

function isChip(one) {
  return typeof one === "object" && one !== null && typeof one.name === "string" && Array.isArray(one.neurons)
    && (one.set === null || typeof one.set === "string");
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
  if (news) change({}); // the address keeps them
}

function notice(text) {
  const place = byId("others");
  if ([...place.children].some((one) => one.textContent === text)) return;
  place.append(make("p", { class: "notice" }, text));
}

let writing = 0;
function change(changes) {
  state = { ...state, ...changes };
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", link()), 200);
}

function fromLink() {
  const found = /^#s=([\w-]+)$/.exec(location.hash);
  if (!found) return false;
  try {
    state = taken(unpacked(found[1]));
  } catch {
    trouble(new Refusal("The state in this address cannot be read."));
    return false;
  }
  return true;
}
