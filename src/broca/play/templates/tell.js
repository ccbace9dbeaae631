// What is told in a place that is always in sight: what went wrong, and what was done.

// One sentence per source, which is a field's id or a name of its own; null where all is well again.
function trouble(error, source) {
  if (error && error.name === "AbortError") return;
  const id = `trouble-${source}`;
  byId(id)?.remove();
  markField(byId(source), error ? id : null);
  if (!error) return;
  byId("trouble").append(make("p", { id }, error.message));
  if (!(error instanceof Refusal)) throw error;
}

function markField(field, told) {
  if (!field || !("validity" in field)) return;
  if (!told) for (const name of ["aria-invalid", "aria-errormessage"]) field.removeAttribute(name);
  else {
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-errormessage", told);
  }
}

function note(text) {
  byId("kept").textContent = text;
}

// Fields that are refused stay marked.
function closeTold() {
  byId("trouble").replaceChildren();
  note("");
}

// What cannot be used is told: what is shown is still that of the value before.
function usable(field, otherwise = " The value before is still in use.") {
  const fine = field.checkValidity() && (field.type !== "number" || field.value !== "");
  const name = field.getAttribute("aria-label") ?? field.labels[0].firstChild.textContent.trim();
  const why = field.validationMessage || "a number is needed.";
  trouble(fine ? null : new Refusal(`${name}: ${why}${otherwise}`), field.id);
  return fine;
}
