// The state: everything shown can be computed again from it. It is a link and a JSON file.
let state = structuredClone(boot.state);
const sizes = new Map(boot.sets.map((one) => [one.name, one.size]));
const listeners = [];

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
  address.hash = `s=${packed(state)}`;
  return address.href;
}

// Only known fields of known kinds are taken over; the server checks them again.
function taken(value) {
  const found = structuredClone(boot.state);
  if (typeof value !== "object" || value === null) throw new Refusal("This is no state of broca play.");
  for (const key of Object.keys(found)) {
    if (key in value && typeof value[key] === typeof found[key]) found[key] = value[key];
  }
  if (!Array.isArray(found.chips) || !Array.isArray(found.shots)) throw new Refusal("This is no state of broca play.");
  return found;
}

let writing = 0;
function change(changes, { quiet = false } = {}) {
  state = { ...state, ...changes };
  clearTimeout(writing);
  writing = setTimeout(() => history.replaceState(null, "", link()), 200);
  for (const listener of listeners) listener(quiet);
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
