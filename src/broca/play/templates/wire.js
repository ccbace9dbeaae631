// Requests to this server: answered at once, or streamed as server-sent events.
const boot = JSON.parse(document.getElementById("boot").textContent);
const byId = (id) => document.getElementById(id);

class Refusal extends Error {}

function headers() {
  const found = { "content-type": "application/json" };
  if (boot.token) found[boot.token_header] = boot.token;
  return found;
}

async function send(route, content, signal) {
  let response;
  try {
    response = await fetch(`/api/${route}`, {
      method: "POST", headers: headers(), body: JSON.stringify(content), signal, cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer. Is it still running? Start it again and reload.");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw new Refusal(told.error || `The server refused (${response.status}).`);
}

async function ask(route, content) {
  return (await send(route, content)).json();
}

// Calls hear(kind, data) for every event and returns the result; null when it was stopped.
async function stream(route, content, hear, signal) {
  const response = await send(route, content, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refusal("The server broke off. Is it still running?");
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const kind = lines.find((line) => line.startsWith("event: "));
      if (!kind) continue; // a sign of life
      const data = JSON.parse(lines.find((line) => line.startsWith("data: ")).slice(6));
      const name = kind.slice(7);
      if (name === "result") return data.value;
      if (name === "stopped") return null;
      if (name === "error") throw new Refusal(data.text);
      hear(name, data);
    }
  }
}

function trouble(error) {
  const place = byId("trouble");
  if (error && error.name === "AbortError") return;
  place.hidden = !error;
  place.textContent = error ? error.message : "";
  if (error && !(error instanceof Refusal)) throw error;
}

// What cannot be used is told: what is shown is still that of the value before.
function usable(field) {
  if (field.checkValidity() && (field.type !== "number" || field.value !== "")) return true;
  const name = field.getAttribute("aria-label") ?? field.labels[0].firstChild.textContent.trim();
  trouble(new Refusal(`${name}: ${field.validationMessage || "a number is needed."}`));
  return false;
}

const queueText = (ahead) => (ahead ? `${ahead} before you in the queue` : "");

function tellQueue(ahead) {
  byId("queue").textContent = queueText(ahead);
}
