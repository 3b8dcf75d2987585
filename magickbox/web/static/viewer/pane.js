// One picture with its frame around it: draws, zooms, moves, and turns what hands do on it into calls.

import { firstWindow, paint, valueAt } from "./greys.js";

const LEAST_ZOOM = 0.05, MOST_ZOOM = 40, WHEEL_STEP = 40;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// `calls`: step(pane, by), windowed(pane, window), moved(pane), chosen(pane), tool() -> "window" | "scroll" | "pan" | "zoom".
export class Pane {
  constructor(label, calls) {
    this.label = label;
    this.calls = calls;
    this.own = document.createElement("canvas");
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.corners = Object.fromEntries(["tl", "tr", "bl", "br"].map((name) => [name, element("div", { class: `corner ${name}` })]));
    this.message = element("div", { class: "over", role: "status" });
    this.screen = element("div", { class: "screen", tabindex: "0", role: "group" }, this.canvas, ...Object.values(this.corners), this.message);
    this.slider = element("input", { type: "range", min: "1", max: "1", value: "1", "aria-label": `${label}: picture` });
    this.title = element("h2");
    this.foot = element("div", { class: "foot" }, this.slider);
    this.card = element("div", { class: "card-in-pane", hidden: "" });
    this.root = element("section", { class: "pane", "aria-label": label }, this.title, this.screen, this.card, this.foot);
    this.view = { zoom: 1, x: 0, y: 0 };
    this.window = null;
    this.inverted = false;
    this.stack = null;
    this.n = 0;
    this.frame = null;
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.screen);
  }

  // Another series, or null.
  show(stack) {
    this.stack = stack;
    this.frame = null;
    this.window = null;
    this.view = { zoom: 1, x: 0, y: 0 };
    this.n = 0;
    this.slider.max = Math.max(1, stack?.length ?? 1);
    this.foot.hidden = !stack || stack.length < 2;
    const series = stack?.series;
    this.title.textContent = series
      ? `${this.label} · ${series.modality}${series.number === null ? "" : ` ${series.number}`} ${series.description}` : this.label;
    this.screen.setAttribute("aria-label", series
      ? `${this.label}, ${series.modality} ${series.description}: arrow keys scroll, question mark lists all keys` : `${this.label}: nothing`);
    this.say(stack ? "" : "nothing to look at");
    this.#clear();
  }

  say(text) {
    this.message.textContent = text;
  }

  // A frame that has come, or the reason why there is none.
  set(n, frame, reason = "") {
    this.n = n;
    this.frame = frame;
    this.say(reason ? `no picture: ${reason}` : "");
    if (frame) this.repaint();
    else this.#clear();
  }

  place(n) {
    this.slider.value = n + 1;
    this.slider.setAttribute("aria-valuetext", `${n + 1} of ${this.stack?.length ?? 0}`);
  }

  repaint() {
    if (!this.frame) return;
    paint(this.own, this.frame, this.window, this.inverted);
    this.draw();
  }

  #clear() {
    this.own.width = this.own.height = 1;
    this.draw();
  }

  #fit() {
    const aspect = this.frame?.aspect ?? 1;
    return Math.min(this.canvas.width / this.own.width, this.canvas.height / (this.own.height * aspect));
  }

  // Where the picture lies on the canvas, in device pixels.
  #box() {
    const scale = this.#fit() * this.view.zoom;
    const width = this.own.width * scale, height = this.own.height * (this.frame?.aspect ?? 1) * scale;
    const ratio = devicePixelRatio;
    return {
      scale, width, height,
      x: (this.canvas.width - width) / 2 + this.view.x * ratio, y: (this.canvas.height - height) / 2 + this.view.y * ratio,
    };
  }

  draw() {
    const { clientWidth, clientHeight } = this.screen;
    const width = Math.max(1, Math.round(clientWidth * devicePixelRatio));
    const height = Math.max(1, Math.round(clientHeight * devicePixelRatio));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d", { alpha: false });
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    if (!this.frame) return this.#tell();
    const box = this.#box();
    context.imageSmoothingEnabled = box.scale < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.own, box.x, box.y, box.width, box.height);
    this.#tell();
  }

  #tell(under = "") {
    const { stack, frame } = this;
    const at = stack?.frames[this.n];
    const window = this.window ?? (frame && firstWindow(frame));
    this.corners.tl.textContent = stack ? `${stack.series.patient}\n${stack.series.modality} ${stack.series.description}` : "";
    this.corners.tr.textContent = at
      ? [at.instance.number === null ? "" : `image ${at.instance.number}`, at.instance.frames > 1 ? `frame ${at.number}/${at.instance.frames}` : ""].filter(Boolean).join("\n") : "";
    this.corners.bl.textContent = frame && stack ? `${this.n + 1} / ${stack.length}` : "";
    const level = !frame || frame.kind === "rgb" ? "" : !this.window && frame.table ? "window of the file (table)" : `C ${short(window.center)}  W ${short(window.width)}`;
    this.corners.br.textContent = frame ? [under, `${level}${this.inverted ? "  inverted" : ""}`, `${Math.round((this.#box().scale / devicePixelRatio) * 100)} %`].filter(Boolean).join("\n") : "";
  }

  zoomBy(factor, x = this.screen.clientWidth / 2, y = this.screen.clientHeight / 2) {
    const zoom = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, this.view.zoom * factor));
    const real = zoom / this.view.zoom;
    const cx = x - this.screen.clientWidth / 2, cy = y - this.screen.clientHeight / 2;
    this.view = { zoom, x: cx - (cx - this.view.x) * real, y: cy - (cy - this.view.y) * real };
    this.draw();
    this.calls.moved(this);
  }

  panBy(dx, dy) {
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.draw();
    this.calls.moved(this);
  }

  fit() {
    this.view = { zoom: 1, x: 0, y: 0 };
    this.draw();
    this.calls.moved(this);
  }

  actualSize() {
    this.fit();
    this.zoomBy(devicePixelRatio / this.#fit());
  }

  // Change the window by a movement; the wider it is, the faster it changes.
  windowBy(dx, dy) {
    if (!this.frame || this.frame.kind === "rgb") return;
    const now = this.window ?? firstWindow(this.frame);
    const step = Math.max(now.width, Math.abs(this.frame.slope) * 4) / 300;
    this.setWindow({ center: now.center + dy * step, width: Math.max(this.frame.slope > 0 ? this.frame.slope : 1e-6, now.width + dx * step) });
  }

  setWindow(window, tell = true) {
    this.window = window;
    this.repaint();
    if (tell) this.calls.windowed(this, window);
  }

  #listen() {
    const { screen } = this;
    let wheel = 0;
    screen.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) {
        this.zoomBy(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
        return;
      }
      wheel += event.deltaMode ? event.deltaY * WHEEL_STEP : event.deltaY;
      const steps = Math.trunc(wheel / WHEEL_STEP);
      wheel -= steps * WHEEL_STEP;
      if (steps) this.calls.step(this, steps);
    }, { passive: false });
    screen.addEventListener("contextmenu", (event) => event.preventDefault());
    screen.addEventListener("dblclick", () => this.fit());
    screen.addEventListener("focusin", () => this.calls.chosen(this));
    this.slider.addEventListener("input", () => this.calls.step(this, Number(this.slider.value) - 1 - this.n, true));
    this.#pointers();
  }

  #pointers() {
    const down = new Map();
    let scrolled = 0, apart = 0;
    const tool = (event) => {
      if (event.button === 1 || event.shiftKey) return "pan";
      if (event.button === 2) return "zoom";
      return this.calls.tool();
    };
    this.screen.addEventListener("pointerdown", (event) => {
      this.screen.setPointerCapture(event.pointerId);
      down.set(event.pointerId, { x: event.clientX, y: event.clientY, tool: tool(event) });
      scrolled = apart = 0;
      this.calls.chosen(this);
    });
    this.screen.addEventListener("pointermove", (event) => {
      const last = down.get(event.pointerId);
      if (!last) return this.#hover(event);
      const dx = event.clientX - last.x, dy = event.clientY - last.y;
      Object.assign(last, { x: event.clientX, y: event.clientY });
      if (down.size === 2) {
        const [a, b] = [...down.values()];
        const now = Math.hypot(a.x - b.x, a.y - b.y);
        const rect = this.screen.getBoundingClientRect();
        if (apart) this.zoomBy(now / apart, (a.x + b.x) / 2 - rect.x, (a.y + b.y) / 2 - rect.y);
        apart = now;
        this.panBy(dx / 2, dy / 2);
      } else if (down.size > 2) {
        return;
      } else if (last.tool === "pan") {
        this.panBy(dx, dy);
      } else if (last.tool === "zoom") {
        this.zoomBy(Math.exp(-dy / 150));
      } else if (last.tool === "scroll") {
        scrolled += dy;
        const steps = Math.trunc(scrolled / 12);
        scrolled -= steps * 12;
        if (steps) this.calls.step(this, steps);
      } else {
        this.windowBy(dx, dy);
      }
    });
    const up = (event) => down.delete(event.pointerId);
    this.screen.addEventListener("pointerup", up);
    this.screen.addEventListener("pointercancel", up);
    this.screen.addEventListener("pointerleave", () => this.#tell());
  }

  #hover(event) {
    if (!this.frame || event.pointerType === "touch") return;
    const rect = this.screen.getBoundingClientRect();
    const box = this.#box();
    const x = Math.floor(((event.clientX - rect.x) * devicePixelRatio - box.x) / box.scale);
    const y = Math.floor(((event.clientY - rect.y) * devicePixelRatio - box.y) / (box.scale * (this.frame.aspect ?? 1)));
    const value = valueAt(this.frame, x, y);
    this.#tell(value === "" ? "" : `${x}, ${y}: ${value}`);
  }
}

function short(number) {
  return Math.abs(number) >= 100 || Number.isInteger(number) ? Math.round(number) : number.toPrecision(3);
}
