// Requests to this server: answered at once, or streamed as server-sent events.
const boot = JSON.parse(document.getElementById("boot").textContent);
const byId = (id) => document.getElementById(id);

class Refusal extends Error {}

const SILENT = "The server does not answer. Is it still running? Start it again and reload.";
const BROKEN_OFF = "The server stopped before it had answered. Start it again and reload.";

function headers() {
  const found = { "content-type": "application/json" };
  if (boot.token) found[boot.token_header] = boot.token;
  return found;
}

// What a promise of the browser's network gives; that it fails is told in a sentence.
async function reached(promise, told) {
  try {
    return await promise;
  } catch (error) {
    throw error.name === "AbortError" ? error : new Refusal(told);
  }
}

async function send(route, content, signal) {
  const response = await reached(fetch(`/api/${route}`, {
    method: "POST", headers: headers(), body: JSON.stringify(content), signal, cache: "no-store",
  }), SILENT);
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refusal(told.error || `The server refused (${response.status}).`);
}

async function ask(route, content) {
  return reached((await send(route, content)).json(), BROKEN_OFF);
}

// Calls hear(kind, data) for every event and returns the result.
async function stream(route, content, hear, signal) {
  const response = await send(route, content, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reached(reader.read(), BROKEN_OFF);
    if (done) throw new Refusal(BROKEN_OFF);
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const kind = lines.find((line) => line.startsWith("event: "));
      if (!kind) continue; // a sign of life
      const data = JSON.parse(lines.find((line) => line.startsWith("data: ")).slice(6));
      const name = kind.slice(7);
      if (name === "result") return data.value;
      if (name === "stopped") throw new Refusal(BROKEN_OFF); // whoever stops it hears nothing more
      if (name === "error") throw new Refusal(data.text);
      hear(name, data);
    }
  }
}

const queueText = (ahead) => (ahead ? `${ahead} before you in the queue` : "");

function tellQueue(ahead) {
  byId("queue").textContent = queueText(ahead);
}
