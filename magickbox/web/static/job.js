// One job: what happens to it, as it happens, and its log as the processor writes it.
import { api } from "./app.js";

const log = document.querySelector("pre[data-log]");
const state = document.getElementById("logstate");
let following = false;

// What has come since the last look; true while the processor runs or more is there.
async function look() {
  const before = Number(log.dataset.next);
  const piece = await api(`${log.dataset.log}?offset=${before}`);
  const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
  if (piece.offset === 0 && before !== 0) log.textContent = ""; // a new run has begun another log
  log.append(piece.text);
  log.dataset.next = piece.next;
  document.getElementById("log").hidden = piece.size === 0 && !piece.running;
  if (atEnd) log.scrollTop = log.scrollHeight;
  state.textContent = piece.running ? "the processor is running" : "the processor has ended";
  return piece.running || piece.next < piece.size;
}

async function follow() {
  if (following) return;
  following = true;
  for (let running = true; running; ) {
    try {
      running = await look();
    } catch (problem) {
      if (problem.problem?.status === 404) break; // the job is gone
    }
    if (running) await new Promise((done) => setTimeout(done, document.hidden ? 5000 : 1000));
  }
  following = false;
}

// One look for a burst of news: the parts of the page that tell of the job, as the server renders them.
const PARTS = ["head", "facts", "happened", "deliveries"];
const head = document.getElementById("head");
let due = 0;

async function refresh() {
  due = 0;
  const answer = await fetch(`${location.pathname}/part`).catch(() => null); // the window may be restarting
  if (!answer?.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const was = stateNow();
  for (const id of PARTS) {
    const [part, found] = [document.getElementById(id), fresh.getElementById(id)];
    if (part && found && !part.querySelector("details[open]") && !part.contains(document.activeElement)) {
      const list = part.querySelector(".timeline")?.scrollTop;
      part.replaceChildren(...found.childNodes);
      if (list) part.querySelector(".timeline").scrollTop = list;
    }
  }
  if (stateNow() !== was) showMore(stateNow());
}

const stateNow = () => head.querySelector("h1 .badge").textContent;

// What a new state brings: results to look at, and a decision.
function showMore(state) {
  if (["deleting", "deleted", "lost"].includes(state)) return;
  window.htmx.ajax("GET", `${location.pathname}/series`, { target: "#series", swap: "outerHTML" });
  if (["delivering", "done", "attention"].includes(state) && document.querySelector("#whytable .empty")) {
    window.htmx.ajax("GET", `${location.pathname}/why?when=decided`, { target: "#whytable" });
  }
}

for (const topic of head.dataset.live.split(" ")) {
  document.addEventListener(`live:${topic}`, () => { due ||= setTimeout(refresh, topic === "deliveries" ? 2000 : 300); });
}

if (log) {
  log.scrollTop = log.scrollHeight;
  if (log.dataset.running === "yes") follow();
  document.addEventListener(`live:job:${log.dataset.job}`, follow);
}
