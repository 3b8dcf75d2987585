// Live parts of a page: an element with data-live="jobs status" gets the htmx event "live" when one of these topics has
// news, at most once a second; with hx-trigger="live" it then fetches itself anew. One stream for the whole page, closed
// while the page is hidden.

let stream = null;
const due = new Map();

function parts() {
  return [...document.querySelectorAll("[data-live]")];
}

function wake(topic, data) {
  document.dispatchEvent(new CustomEvent(`live:${topic}`, { detail: data }));
  for (const part of parts()) {
    if (!part.dataset.live.split(" ").includes(topic) || due.has(part)) continue;
    due.set(part, setTimeout(() => {
      due.delete(part);
      if (part.isConnected && window.htmx) window.htmx.trigger(part, "live");
    }, 300));
  }
}

function open() {
  const topics = [...new Set(parts().flatMap((part) => part.dataset.live.split(" ")))];
  if (stream || document.hidden || topics.length === 0) return;
  stream = new EventSource(`/api/v1/events?topics=${encodeURIComponent(topics.join(","))}`);
  for (const topic of topics) stream.addEventListener(topic, (event) => wake(topic, JSON.parse(event.data)));
  stream.addEventListener("open", () => document.documentElement.classList.remove("stale"));
  stream.addEventListener("error", () => document.documentElement.classList.add("stale"));
}

function close() {
  stream?.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return close();
  open();
  for (const part of parts()) if (window.htmx) window.htmx.trigger(part, "live");
});
window.addEventListener("pagehide", close);
window.addEventListener("pageshow", open);
open();
