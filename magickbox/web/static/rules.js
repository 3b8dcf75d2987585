// The page of the editor: mounts it over the text field, shows what the box says of the draft while one types, and leads
// from a finding to its place.

import { api, say } from "./app.js";
import { goTo, mount } from "./ruleseditor.js";

const form = document.getElementById("draft"), field = form.elements.text, list = document.getElementById("findings");
const save = form.querySelector('button[value="save"]');
const before = field.value;
let leaving = false;

async function check(text) {
  if (field.readOnly) return [];
  const body = JSON.stringify({ text });
  return (await api("/rules/check", { method: "POST", body, headers: { "Content-Type": "application/json" } })).findings;
}

function told(findings, error) {
  const wrong = findings.some((each) => !each.warning);
  if (save) save.disabled = wrong && !error;
  list.replaceChildren(...(error ? [line(`cannot be checked: ${error.message}`, "bad")] : findings.slice(0, 20).map(shown)));
  if (!error && !wrong && !field.readOnly) list.append(line(findings.length ? "It can be used all the same." : "No errors.", "good"));
}

function line(text, kind) {
  const made = document.createElement("p");
  made.className = `finding ${kind}`;
  made.textContent = text;
  return made;
}

function shown(finding) {
  const made = line("", finding.warning ? "warning" : "bad"), place = document.createElement("button");
  place.type = "button";
  place.className = "quiet";
  place.dataset.line = finding.line;
  place.dataset.column = finding.column;
  place.textContent = `line ${finding.line}`;
  made.append(place, ` ${finding.where ? `${finding.where}: ` : ""}${finding.said}`);
  return made;
}

try {
  const view = mount(field, await api("/rules/schema"), check, told);
  form.querySelector(".plain-only")?.remove();
  document.addEventListener("click", (event) => {
    const place = event.target.closest("[data-line]");
    if (place) goTo(view, Number(place.dataset.line), Number(place.dataset.column));
  });
} catch (error) {
  say(`the editor cannot be loaded, the text field stays: ${error.message}`, "bad");
}

document.addEventListener("htmx:afterSettle", (event) => {
  const made = document.getElementById("outcome");
  if (event.detail.target?.id === "outcome" || event.detail.elt?.id === "outcome") made?.scrollIntoView({ block: "nearest" });
});
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (event.detail.xhr.getResponseHeader("HX-Redirect")) leaving = true;
});
addEventListener("beforeunload", (event) => { if (!leaving && field.value !== before) event.preventDefault(); });
