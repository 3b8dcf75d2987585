// Frames from the API: fetched, unpacked, kept in memory for a while; neighbours are fetched before they are wanted.

const MOST_BYTES = 320 * 1024 * 1024;
const AT_ONCE = 3;
const MAGIC = 0x3146424d; // "MBF1"

// The packed form of web/api/pictures.py: what is said of the frame, its samples, and a table if no window says its greys.
export function unpack(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 8 || view.getUint32(0, true) !== MAGIC) throw new Error("this is no frame");
  const length = view.getUint32(4, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const start = 8 + length;
  const count = about.rows * about.columns;
  const bytes = { rgb: 3, u1: 1, u2: 2, i2: 2 }[about.samples];
  const samples = bytes === 2 ? new Uint16Array(buffer, start, count) : new Uint8Array(buffer, start, count * bytes);
  const table = about.table ? new Uint8Array(buffer, start + count * bytes, 65536) : null;
  return { ...about, samples, kind: about.samples, table, bytes: buffer.byteLength };
}

// One series of one place, its frames counted from 0 over all its instances.
export class Stack {
  constructor(job, place, series) {
    this.place = place;
    this.series = series;
    this.base = `/api/v1/jobs/${encodeURIComponent(job)}/${place}/instances`;
    this.frames = series.instances.flatMap((instance) =>
      Array.from({ length: instance.frames }, (_, number) => ({ instance, number: number + 1 })));
  }

  get length() {
    return this.frames.length;
  }

  path(n, what = "") {
    return `${this.base}/${encodeURIComponent(this.frames[n].instance.instance)}${what}`;
  }

  url(n) {
    return this.path(n, `/frames/${this.frames[n].number}/values`);
  }
}

// Fetched frames of all stacks, the longest unused forgotten first.
export class Frames {
  constructor() {
    this.kept = new Map();
    this.bytes = 0;
    this.under = new Map();
    this.queue = [];
  }

  has(url) {
    return this.kept.has(url);
  }

  // A frame; resolves with it, or rejects with the reason why there is none.
  get(url) {
    const found = this.kept.get(url);
    if (found) {
      this.kept.delete(url);
      this.kept.set(url, found);
      return Promise.resolve(found);
    }
    return this.#fetch(url).promise;
  }

  // Fetch these when nothing else is to do, and give up what was to be fetched before and is not among them.
  expect(urls, also = []) {
    const wanted = new Set([...urls, ...also]);
    for (const [url, each] of this.under) if (!wanted.has(url)) each.stop.abort();
    this.queue = urls.filter((url) => !this.kept.has(url) && !this.under.has(url));
    this.#next();
  }

  #fetch(url) {
    const running = this.under.get(url);
    if (running) return running;
    const stop = new AbortController();
    const promise = this.#load(url, stop.signal).finally(() => {
      this.under.delete(url);
      this.#next();
    });
    promise.catch(() => {});
    const made = { promise, stop };
    this.under.set(url, made);
    return made;
  }

  async #load(url, signal) {
    for (let attempt = 0; ; attempt++) {
      const answer = await fetch(url, { signal });
      if (answer.ok) return this.#keep(url, unpack(await answer.arrayBuffer()));
      const problem = await answer.json().catch(() => ({}));
      if (answer.status !== 503 || attempt === 4) throw new Error(problem.detail || `status ${answer.status}`);
      await new Promise((done) => setTimeout(done, 700));
    }
  }

  #keep(url, frame) {
    this.kept.set(url, frame);
    this.bytes += frame.bytes;
    for (const [old, each] of this.kept) {
      if (this.bytes <= MOST_BYTES || old === url) break;
      this.kept.delete(old);
      this.bytes -= each.bytes;
    }
    return frame;
  }

  #next() {
    while (this.queue.length && this.under.size < AT_ONCE) this.#fetch(this.queue.shift());
  }
}
