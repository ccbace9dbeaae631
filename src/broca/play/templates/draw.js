// Elements from plain values. Text goes in as text, never as markup.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const show = (id, ...children) => byId(id).replaceChildren(...children.filter((child) => child));
const visible = (token) => (/^ +$/.test(token) ? token.replaceAll(" ", "␣") : token.replaceAll("\n", "↵"));
const percent = (p) => (p === null ? "–" : p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : p >= 0.001 ? `${(100 * p).toFixed(1)} %` : p > 0 ? "< 0.1 %" : "0 %");
const minus = (text) => text.replace("-", "−");
const rounded = (value, digits) => value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1"); // no −0.00
const number = (value, digits = 3) => (value === null || value === undefined ? "–" : minus(digits < 3 || Math.abs(value) >= 1e-3 || value === 0 ? rounded(value, digits) : value.toExponential(1)));

// A figure that the server has drawn; its text was escaped there, and it holds no script.
// Points are for the mouse: the list beside them has the same numbers and does the same.
function figure(one, onNeuron) {
  const parsed = new DOMParser().parseFromString(one.svg, "image/svg+xml").documentElement;
  const drawing = make("div", { class: one.heat ? "drawing heat" : "drawing" });
  drawing.append(document.importNode(parsed, true));
  const titles = onNeuron ? [...drawing.querySelectorAll("path > title")] : [];
  const points = titles.map((title) => [title.parentNode, /^\w+:\d+:\d+/.exec(title.textContent)]).filter(([, name]) => name);
  for (const [point, [name]] of points) {
    point.classList.add("point");
    point.addEventListener("click", () => onNeuron(name));
  }
  const values = points.length || !one.values.length ? null : inNumbers(one.values);
  return make("figure", {}, make("h3", {}, one.title), drawing, make("figcaption", {}, make("p", {}, one.caption), values));
}

// What a drawing says by colours and places, for those who cannot point at it.
function inNumbers(lines) {
  return make("details", { class: "values" }, make("summary", {}, "In numbers"), make("ul", {}, ...lines.map((line) => make("li", {}, line))));
}

// A token, marks on a track from 0 to 1, and what they say.
function bar(token, told, label, ...marks) {
  const track = make("div", { class: "track", role: label ? "img" : null, "aria-label": label, "aria-hidden": label ? null : "true" }, ...marks);
  return make("div", { class: "bar" }, make("span", { class: "token" }, visible(token) || "∅"), track, make("span", { class: "change" }, ...[told].flat()));
}

// Rows of cells under headings that sort them.
function table(headings, rows, caption) {
  const head = make("tr");
  const body = make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells)));
  headings.forEach(([name, numeric], place) => {
    const sort = () => {
      const down = heading.getAttribute("aria-sort") === "descending";
      for (const other of head.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "ascending" : "descending");
      const key = (row) => row.cells[place].dataset.sort ?? row.cells[place].textContent;
      const order = (a, b) => (numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b)));
      body.append(...[...body.rows].sort((a, b) => (down ? order(a, b) : order(b, a))));
    };
    const heading = make("th", { scope: "col", class: numeric ? "number" : "", tabindex: "0", onclick: sort, onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); } } }, name);
    head.append(heading);
  });
  return make("div", { class: "table" }, make("div", { class: "scroll" },
    make("table", { class: "sortable" }, make("caption", { class: "caption" }, caption), make("thead", {}, head), body)));
}

const numberCell = (value, text = number(value)) => make("td", { class: "number", "data-sort": value ?? "" }, text);

function copy(text, what) {
  const shown = () => note(`${what}: copy it from below.`);
  if (!navigator.clipboard) return shown();
  return navigator.clipboard.writeText(text).then(() => note(`${what} copied.`), shown);
}

function download(name, text, kind) {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// A text that begins like a formula is one to a spreadsheet, unless a ' stands before it.
function csv(rows) {
  const plain = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value));
  const cell = (text) => (/[",\n\r\t]|^'/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return rows.map((row) => row.map((value) => cell(plain(value))).join(",")).join("\n") + "\n";
}
