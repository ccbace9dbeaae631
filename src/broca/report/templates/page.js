"use strict";
// A click on a heading sorts its table; a second click turns the order round.
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0];
  const place = heading.cellIndex;
  const down = heading.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[place].dataset.sort;
  const numbers = heading.classList.contains("number");
  const compare = (a, b) => {
    const left = key(a), right = key(b);
    if (left === "" || right === "") return (left === "") - (right === ""); // empty cells last
    const order = numbers ? Number(left) - Number(right) : left.localeCompare(right);
    return down ? -order : order;
  };
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...[...body.rows].sort(compare));
}
for (const heading of document.querySelectorAll(".sortable th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sortBy(heading));
  heading.addEventListener("keydown", (event) => {
    if (event.key === "Enter") sortBy(heading);
  });
}
// The contents show which part is being read.
const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const link = links.get(entry.target.id);
    if (link) link.classList.toggle("here", entry.isIntersecting);
  }
}, { rootMargin: "-20% 0px -60% 0px" });
for (const part of document.querySelectorAll(".part")) watcher.observe(part);
// A part is opened by a link to it, and all are opened to be printed.
function openPart() {
  const part = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part && part.tagName === "DETAILS") { part.open = true; part.scrollIntoView(); }
}
window.addEventListener("hashchange", openPart);
openPart();
for (const link of links.values()) link.addEventListener("click", () => setTimeout(openPart));
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.part")) part.open = true;
});
