// The elements of the instance that is looked at, with a search.

import { api } from "../app.js";
import { element } from "./pane.js";

export class Metadata {
  constructor(close) {
    this.search = element("input", { type: "search", placeholder: "tag, name or value", "aria-label": "Search the elements" });
    this.rows = element("tbody");
    this.note = element("p", { class: "muted", role: "status" });
    const done = element("button", { class: "small", type: "button" }, "Close");
    const table = element("table", { class: "list" }, element("thead", {}, element("tr", {},
      ...["Tag", "VR", "Name", "Value"].map((name) => element("th", { scope: "col" }, name)))), this.rows);
    this.root = element("aside", { class: "metadata card", "aria-label": "Elements", hidden: "" },
      element("div", { class: "toolbar" }, element("h2", {}, "Elements"), this.search, element("span", { class: "push" }, done)),
      this.note, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "List of elements" }, table));
    this.path = "";
    done.addEventListener("click", close);
    this.search.addEventListener("input", () => this.#soon());
  }

  // Show what instance a path names; nothing is fetched while the panel is closed.
  look(path) {
    const other = path !== this.path;
    this.path = path;
    if (other && !this.root.hidden) this.#soon();
  }

  toggle(open = this.root.hidden) {
    this.root.hidden = !open;
    if (open) {
      this.#load();
      this.search.focus();
    }
  }

  #soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#load(), 200);
  }

  async #load() {
    const { path, search } = this;
    if (!path) return;
    try {
      const found = await api(`${path.replace("/api/v1", "")}/metadata?search=${encodeURIComponent(search.value)}`);
      if (path !== this.path) return;
      this.rows.replaceChildren(...found.elements.map(row));
      this.note.textContent = found.elements.length ? found.note : "no element has this";
    } catch (error) {
      this.rows.replaceChildren();
      this.note.textContent = error.message;
    }
  }
}

function row(line) {
  const name = element("td", {}, line.name || "");
  name.style.paddingLeft = `${0.6 + Math.min(line.depth, 12)}rem`;
  const text = line.hidden ? "hidden" : line.text ?? (line.length ? `${line.length} bytes` : "");
  return element("tr", {}, element("td", { class: "mono nowrap" }, line.tag ?? ""), element("td", { class: "mono" }, line.vr), name,
    element("td", { class: line.hidden ? "muted" : "value" }, text));
}
