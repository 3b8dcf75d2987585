// The log, followed: what is new is asked for when the box tells of it, and put in as text.
import { api } from "./app.js";

const MOST = 2000;
const lines = document.getElementById("lines");
const follow = document.getElementById("follow");
const wanted = follow.querySelector("input");
let busy = false;

follow.hidden = false;
lines.scrollTop = lines.scrollHeight;

function shown(line) {
  const made = document.createElement("div");
  made.className = `logline ${line.level.toLowerCase()}`;
  const time = document.createElement("time");
  time.textContent = line.at ? new Date(line.at).toLocaleTimeString("sv-SE") : "";
  const event = document.createElement("b");
  event.textContent = line.event;
  made.append(time, " ", event, " ", ...linked(line.facts));
  return made;
}

// The facts, with jobs as links.
function linked(facts) {
  return facts.split(/\b(?<=job=)(\d{8}T\d{6}Z-[\w-]{1,16}-[0-9a-f]{4})\b/).map((part, at) => {
    if (at % 2 === 0) return part;
    const link = document.createElement("a");
    link.href = `/jobs/${part}`;
    link.textContent = part;
    return link;
  });
}

async function look() {
  if (busy || !wanted.checked) return;
  busy = true;
  try {
    const { name, job, level, next } = lines.dataset;
    const asked = new URLSearchParams({ name, job, level, cursor: next });
    const found = await api(`/log?${asked}`);
    lines.dataset.next = found.next;
    if (found.items.length) {
      const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 40;
      document.getElementById("nolines")?.remove();
      lines.append(...found.items.map(shown));
      while (lines.childElementCount > MOST) lines.firstElementChild.remove();
      if (atEnd) lines.scrollTop = lines.scrollHeight;
    }
  } catch {
    // the window may be restarting; the next look tries again
  }
  busy = false;
}

if (lines.dataset.name === "routing") document.addEventListener("live:log", look);
else setInterval(() => { if (!document.hidden) look(); }, 3000);
wanted.addEventListener("change", look);
