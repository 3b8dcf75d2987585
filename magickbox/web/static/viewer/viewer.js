// The viewer: series beside each other, scrolled together, windowed, zoomed; by mouse, touch and keys.

import { api, say } from "../app.js";
import { card } from "./cards.js";
import { Frames, Stack } from "./frames.js";
import { firstWindow, fullRange, presets } from "./greys.js";
import { Metadata } from "./metadata.js";
import { element, Pane } from "./pane.js";

const AHEAD = 8, BEHIND = 3;
const KEYS = [
  ["↑ ↓ ← →", "one picture back or on"], ["Page up, Page down", "ten pictures"], ["Home, End", "the first, the last"],
  ["[ ] and { }", "window narrower, wider; darker, brighter"], ["I", "invert"], ["R", "reset window and zoom"],
  ["+ −", "zoom"], ["0, 1", "fit, actual size"], ["W, S, P, Z", "what dragging does: window, scroll, pan, zoom"],
  ["B", "one beside the other, or one alone"], ["L", "scroll both together"], ["Tab", "the other picture"],
  ["M", "the elements, with search"], ["F", "full screen"], ["?", "these keys"],
];

const root = document.getElementById("viewer");
const frames = new Frames();
const state = { beside: false, linked: true, tool: matchMedia("(pointer: coarse)").matches ? "scroll" : "window", active: null };
let listing;

const calls = {
  step: (pane, by, exact) => step(pane, by, exact),
  windowed: (pane, window) => { if (state.linked && alike(pane, other(pane))) other(pane).setWindow(window, false); },
  moved: (pane) => { if (state.linked && state.beside && other(pane).stack) { other(pane).view = { ...pane.view }; other(pane).draw(); } },
  chosen: (pane) => activate(pane),
  tool: () => state.tool,
};
const panes = [new Pane("INPUT", calls), new Pane("OUTPUT", calls)];
const metadata = new Metadata(() => showMetadata(false));
const other = (pane) => panes[1 - panes.indexOf(pane)];
const shown = () => (state.beside ? panes : [state.active]);

// Two panes have one window between them where their values mean about the same: a map of edges is not its image.
function alike(pane, beside) {
  const one = pane.frame && firstWindow(pane.frame), two = beside.frame && firstWindow(beside.frame);
  if (!state.beside || !one || !two || pane.stack.series.modality !== beside.stack.series.modality) return false;
  const ratio = one.width / two.width;
  return ratio > 2 / 3 && ratio < 1.5 && Math.abs(one.center - two.center) < Math.max(one.width, two.width) / 2;
}

function activate(pane) {
  state.active = pane;
  for (const each of panes) each.root.classList.toggle("active", state.beside && each === pane);
  choices();
  look();
}

function look() {
  const { stack, n } = state.active;
  metadata.look(stack && stack.length ? stack.path(n) : "");
  if (!stack) return;
  const query = new URLSearchParams({ place: stack.place, series: stack.series.series, n: n + 1 });
  history.replaceState(null, "", `?${query}`);
  for (const link of document.querySelectorAll(".strip a")) {
    const here = shown().some((pane) => pane.stack?.place === link.dataset.place && pane.stack.series.series === link.dataset.series);
    if (here) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function step(pane, by, exact = false) {
  const { stack } = pane;
  if (!stack?.length) return;
  const n = Math.max(0, Math.min(stack.length - 1, (pane.wanted ?? pane.n) + by));
  go(pane, n, Math.sign(by) || 1);
  const beside = other(pane);
  if (!state.beside || !state.linked || !beside.stack?.length) return;
  const same = beside.stack.length === stack.length;
  const there = same ? n : Math.round((n / Math.max(1, stack.length - 1)) * (beside.stack.length - 1));
  go(beside, there, Math.sign(by) || 1);
  if (exact) expect();
}

// Show a frame when it is there; only the last one asked for counts.
async function go(pane, n, direction = 1) {
  const { stack } = pane;
  pane.wanted = n;
  pane.direction = direction;
  pane.place(n);
  pane.root.classList.toggle("no-picture", stack.frames[n].instance.kind !== "image");
  if (stack.frames[n].instance.kind !== "image") return goCard(pane, n);
  pane.card.hidden = true;
  const url = stack.url(n);
  if (!frames.has(url)) pane.root.classList.add("waiting");
  expect();
  try {
    const frame = await frames.get(url);
    if (pane.stack !== stack || pane.wanted !== n) return;
    pane.set(n, frame);
  } catch (error) {
    if (error.name === "AbortError" || pane.stack !== stack || pane.wanted !== n) return;
    pane.set(n, null, error.message);
  }
  pane.root.classList.remove("waiting");
  if (pane === state.active) { choices(); look(); }
}

async function goCard(pane, n) {
  pane.set(n, null);
  pane.card.hidden = false;
  pane.card.replaceChildren("…");
  try {
    pane.card.replaceChildren(...await card(pane.stack, n));
  } catch (error) {
    pane.card.replaceChildren(element("p", { class: "note" }, error.message));
  }
  look();
}

// What will probably be looked at next.
function expect() {
  const now = [], soon = [];
  for (const pane of shown()) {
    if (!pane.stack?.length) continue;
    const at = pane.wanted ?? pane.n, way = pane.direction ?? 1;
    const add = (list, n) => { if (pane.stack.frames[n]?.instance.kind === "image") list.push(pane.stack.url(n)); };
    add(now, at);
    for (let by = 1; by <= AHEAD; by++) {
      add(soon, at + by * way);
      if (by <= BEHIND) add(soon, at - by * way);
    }
  }
  frames.expect(soon, now);
}

function open(pane, place, uid, n = 0) {
  const series = listing[place].series.find((each) => each.series === uid);
  if (!series) return;
  pane.show(new Stack(root.dataset.job, place, series));
  pane.wanted = null;
  pane.root.setAttribute("aria-label", pane.label);
  if (pane.stack.length) go(pane, Math.min(n, pane.stack.length - 1));
}

// The series of a place that fits one of the other best: the same number of pictures, or the first with pictures.
function match(place, stack) {
  const able = listing[place].series.filter((each) => each.has_pictures);
  return able.find((each) => each.frames === stack?.length && each.description === stack.series.description)
    ?? able.find((each) => each.frames === stack?.length) ?? able[0];
}

function setBeside(on) {
  state.beside = on;
  const [input, output] = panes;
  if (on) {
    for (const [pane, place, by] of [[input, "input", output], [output, "output", input]]) {
      if (pane.stack) continue;
      const found = match(place, by.stack);
      if (found) open(pane, place, found.series, found.frames === by.stack?.length ? by.n : 0);
      else pane.show(null);
    }
  }
  root.classList.toggle("beside", on);
  buttons.beside.setAttribute("aria-pressed", on);
  buttons.linked.hidden = !on;
  for (const pane of panes) pane.root.hidden = !on && pane !== state.active;
  activate(state.active);
  expect();
}

function setLinked(on) {
  state.linked = on;
  buttons.linked.setAttribute("aria-pressed", on);
}

function setTool(tool) {
  state.tool = tool;
  for (const [name, button] of Object.entries(tools)) button.setAttribute("aria-pressed", name === tool);
}

function reset() {
  for (const pane of state.linked ? shown() : [state.active]) {
    pane.inverted = false;
    pane.window = null;
    pane.fit();
    pane.repaint();
  }
  choices();
}

function invert() {
  for (const pane of state.linked ? shown() : [state.active]) {
    pane.inverted = !pane.inverted;
    pane.repaint();
  }
}

function choices() {
  const { frame, stack } = state.active;
  const list = frame && frame.kind !== "rgb" ? presets(frame, stack.series.modality) : [];
  buttons.preset.replaceChildren(element("option", { value: "" }, "Window…"), element("option", { value: "own" }, "As the file has it"), element("option", { value: "full" }, "All values"),
    ...list.map(([name, center, width]) => element("option", { value: `${center} ${width}` }, `${name} (C ${center} W ${width})`)));
  buttons.preset.disabled = !frame || frame.kind === "rgb";
}

function showMetadata(on) {
  metadata.toggle(on);
  buttons.metadata.setAttribute("aria-pressed", !metadata.root.hidden);
  if (metadata.root.hidden) state.active.screen.focus();
}

function button(text, title, act) {
  const made = element("button", { type: "button", class: "small", title }, text);
  made.addEventListener("click", act);
  return made;
}

const tools = Object.fromEntries([["window", "Window", "W"], ["scroll", "Scroll", "S"], ["pan", "Pan", "P"], ["zoom", "Zoom", "Z"]]
  .map(([name, text, key]) => [name, button(text, `Dragging: ${text.toLowerCase()} (${key})`, () => setTool(name))]));
const buttons = {
  preset: element("select", { "aria-label": "Window", class: "small" }),
  beside: button("INPUT | OUTPUT", "One beside the other (B)", () => setBeside(!state.beside)),
  linked: button("Linked", "Scroll both together (L)", () => setLinked(!state.linked)),
  metadata: button("Elements", "The elements of this instance (M)", () => showMetadata()),
};
const help = element("dialog", { "aria-label": "Keys", class: "keys" }, element("h2", {}, "Keys"),
  element("dl", { class: "facts" }, ...KEYS.flatMap(([keys, what]) => [element("dt", {}, keys), element("dd", {}, what)])),
  element("p", { class: "muted" }, "Wheel: scroll. Ctrl and wheel, right button, or two fingers: zoom. Middle button, or Shift and drag: pan. Double click: fit."),
  element("form", { method: "dialog" }, element("button", { class: "main" }, "Close")));

function layout() {
  const bar = element("div", { class: "bar", role: "toolbar", "aria-label": "Viewer" },
    element("div", { class: "group", role: "group", "aria-label": "What dragging does" }, ...Object.values(tools)), buttons.preset,
    button("Invert", "Invert (I)", invert), button("Reset", "Reset window and zoom (R)", reset),
    button("Fit", "Fit (0)", () => shown().forEach((pane) => pane.fit())), button("1:1", "Actual size (1)", () => state.active.actualSize()),
    buttons.beside, buttons.linked, buttons.metadata,
    button("Full screen", "Full screen (F)", fullScreen), button("?", "Keys (?)", () => help.showModal()));
  root.replaceChildren(bar, element("div", { class: "panes" }, ...panes.map((pane) => pane.root)), metadata.root, help);
  root.classList.add("alive");
  document.addEventListener("keydown", onKey);
  buttons.preset.addEventListener("change", () => {
    const { value } = buttons.preset;
    const [center, width] = value.split(" ").map(Number);
    if (value) state.active.setWindow(value === "own" ? null : value === "full" ? fullRange(state.active.frame) : { center, width });
    buttons.preset.value = "";
    state.active.screen.focus();
  });
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else root.requestFullscreen?.().catch(() => say("the browser does not do full screen here"));
}

const ACTS = {
  ArrowUp: (pane) => step(pane, -1), ArrowLeft: (pane) => step(pane, -1), ArrowDown: (pane) => step(pane, 1), ArrowRight: (pane) => step(pane, 1),
  PageUp: (pane) => step(pane, -10), PageDown: (pane) => step(pane, 10), Home: (pane) => step(pane, -1e9), End: (pane) => step(pane, 1e9),
  "[": (pane) => pane.windowBy(-15, 0), "]": (pane) => pane.windowBy(15, 0), "{": (pane) => pane.windowBy(0, 15), "}": (pane) => pane.windowBy(0, -15),
  "+": (pane) => pane.zoomBy(1.25), "=": (pane) => pane.zoomBy(1.25), "-": (pane) => pane.zoomBy(0.8),
  0: () => shown().forEach((pane) => pane.fit()), 1: (pane) => pane.actualSize(), i: invert, r: reset,
  w: () => setTool("window"), s: () => setTool("scroll"), p: () => setTool("pan"), z: () => setTool("zoom"),
  b: () => setBeside(!state.beside), l: () => setLinked(!state.linked), m: () => showMetadata(), f: fullScreen, "?": () => help.showModal(),
};

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || help.open) return;
  if (event.target !== document.body && event.target.id !== "main" && !root.contains(event.target)) return;
  const typing = event.target.closest("select, input:not([type=range])");
  if (event.key === "Escape" && !metadata.root.hidden) return showMetadata(false);
  if (typing || (event.target.closest("input, .card-in-pane, .scroll") && event.key.length > 1)) return;
  const act = ACTS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act(state.active);
}

function strips() {
  document.querySelector(".strips").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-series]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const pane = link.dataset.place === "output" ? panes[1] : panes[0];
    open(pane, link.dataset.place, link.dataset.series);
    state.active = pane;
    setBeside(state.beside);
    pane.screen.focus({ preventScroll: true });
    root.scrollIntoView({ block: "nearest" });
  });
}

async function begin() {
  const { job, place, series, n } = root.dataset;
  listing = await api(`/jobs/${encodeURIComponent(job)}/series`);
  layout();
  strips();
  state.active = panes[place === "output" ? 1 : 0];
  open(state.active, place, series, Number(n) - 1);
  setTool(state.tool);
  setLinked(true);
  const both = ["input", "output"].every((each) => listing[each].series.some((one) => one.has_pictures));
  setBeside(both && matchMedia("(min-width: 700px)").matches);
}

begin().catch((error) => say(error.message, "bad"));
