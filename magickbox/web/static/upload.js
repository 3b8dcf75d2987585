// Files, folders and zips into the box: each file is brought on its own, then the window sends them and tells of each.

import { api, say } from "./app.js";

const AT_ONCE = 3, MOST_ROWS = 1000;
const at = (id) => document.getElementById(id);
const csrf = document.querySelector('meta[name="csrf"]').content;
const form = at("upload");
let chosen = [];
let running = null;

const megabytes = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} KB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`);
const some = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;

function choose(files) {
  chosen = files.filter(({ file }) => file.size > 0);
  const bytes = chosen.reduce((sum, { file }) => sum + file.size, 0);
  at("chosen").textContent = chosen.length ? `${some(chosen.length, "file")}, ${megabytes(bytes)}` : "no files in there";
  at("start").disabled = !chosen.length;
}

// Every file below what was dropped, with its path to be told.
async function below(entry, path = "") {
  if (entry.isFile) return [{ file: await new Promise((done, failed) => entry.file(done, failed)), name: path + entry.name }];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!part.length) return found;
    for (const each of part) found.push(...await below(each, `${path}${entry.name}/`));
  }
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  return (await Promise.all(entries.map((entry) => below(entry)))).flat();
}

// One file as the body of a request; `progress` hears of its bytes.
function bring(upload, number, { file, name }, progress, stop) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/v1/uploads/${upload}/files/${number}?name=${encodeURIComponent(name.slice(-900))}`);
    request.setRequestHeader("X-CSRF-Token", csrf);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => progress(event.loaded));
    request.addEventListener("load", () => {
      if (request.status < 300) return done();
      let detail = `status ${request.status}`;
      try { detail = JSON.parse(request.responseText).detail ?? detail; } catch { /* no problem+json */ }
      failed(new Error(detail));
    });
    request.addEventListener("error", () => failed(new Error("the window does not answer, or the file cannot be read")));
    request.addEventListener("abort", () => failed(new DOMException("ended", "AbortError")));
    stop.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

async function bringAll(upload, files, stop) {
  const total = files.reduce((sum, { file }) => sum + file.size, 0) || 1;
  const loaded = new Float64Array(files.length);
  let next = 0, here = 0;
  const show = () => {
    at("progress").value = loaded.reduce((sum, each) => sum + each, 0) / total;
    at("stage").textContent = `Uploading: ${here} of ${some(files.length, "file")}`;
  };
  const work = async () => {
    while (next < files.length && !stop.aborted) {
      const number = next++;
      await bring(upload, number, files[number], (bytes) => { loaded[number] = bytes; show(); }, stop);
      loaded[number] = files[number].file.size;
      here++;
      show();
    }
  };
  show();
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

const STAGES = { waiting: "Waiting for another upload", unpacking: "Looking at the files", sending: "Sending into the box" };

async function follow(upload, stop) {
  for (let after = 0; ; ) {
    const now = await api(`/uploads/${upload}?after=${after}`, { signal: stop });
    after = now.next;
    tell(now);
    const over = now.state === "done" || now.state === "ended";
    if (over && now.results.length < 500) return now;
    if (!now.results.length || !over) await new Promise((done) => setTimeout(done, 400));
  }
}

function tell(now) {
  for (const name of ["stored", "refused", "skipped"]) at(name).textContent = now[name];
  const told = now.stored + now.refused + now.skipped;
  at("progress").value = now.total ? told / now.total : 0;
  if (STAGES[now.state]) at("stage").textContent = now.total ? `${STAGES[now.state]}: ${told} of ${now.total}` : `${STAGES[now.state]}…`;
  const table = at("results");
  for (const result of now.results) {
    if (result.what === "stored" || table.rows.length >= MOST_ROWS) continue;
    const row = table.insertRow();
    for (const text of [result.name, "", result.why]) row.insertCell().textContent = text;
    const badge = document.createElement("span");
    badge.className = `badge ${result.what === "refused" ? "bad" : "off"}`;
    badge.textContent = result.what;
    row.cells[1].append(badge);
    at("listing").hidden = false;
  }
}

function finish(now) {
  at("stage").textContent = now.state === "ended" ? "Ended" : "Done";
  at("progress").value = 1;
  at("end").hidden = !now.stored;
  at("end").textContent = `The box has ${some(now.stored, "file")} for ${now.called_ae}. The job is there when its study has settled. `;
  const link = document.createElement("a");
  link.href = `/jobs?called_ae=${encodeURIComponent(now.called_ae)}`;
  link.textContent = "Jobs";
  at("end").append(link);
  if (now.problem) trouble(now.problem);
  else if (!now.stored) trouble("Nothing was stored.");
}

function trouble(text) {
  at("problem").hidden = false;
  at("problem").textContent = text;
}

function under(way) {
  for (const id of ["start", "called", "files", "folder"]) at(id).disabled = way;
  at("start").hidden = way;
  at("cancel").hidden = !way;
}

async function start() {
  const stop = new AbortController();
  under(true);
  at("course").hidden = false;
  try {
    const { id } = await api("/uploads", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ called_ae: at("called").value.trim() }) });
    running = { id, stop };
    await bringAll(id, chosen, stop.signal);
    await api(`/uploads/${id}/send`, { method: "POST" });
    finish(await follow(id, stop.signal));
  } catch (error) {
    at("stage").textContent = error.name === "AbortError" ? "Ended" : "It did not work";
    if (error.name !== "AbortError") trouble(error.message);
    stop.abort();
    if (running) api(`/uploads/${running.id}`, { method: "DELETE" }).catch(() => {});
  }
  running = null;
  under(false);
  at("start").hidden = true;
  at("again").hidden = false;
  at("again").focus();
}

form.hidden = false;
form.addEventListener("submit", (event) => { event.preventDefault(); start(); });
at("cancel").addEventListener("click", () => running?.stop.abort());
at("again").addEventListener("click", () => location.reload());
for (const id of ["files", "folder"]) {
  at(id).addEventListener("change", () => choose([...at(id).files].map((file) => ({ file, name: file.webkitRelativePath || file.name }))));
}
const drop = at("drop");
addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.toggle("over", drop.contains(event.target)); });
addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (running || at("called").disabled) return;
  choose(await dropped(event.dataTransfer).catch((error) => { say(error.message, "bad"); return []; }));
});
addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); });
