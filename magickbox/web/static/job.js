// One job: its log as the processor writes it. Only text is ever put into the page.
import { api } from "./app.js";

const log = document.querySelector("pre[data-log]");

async function follow() {
  let next = Number(log.dataset.next);
  for (let running = log.dataset.running === "yes"; running; ) {
    await new Promise((done) => setTimeout(done, document.hidden ? 5000 : 1000));
    try {
      const piece = await api(`${log.dataset.log}?offset=${next}`);
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
      if (piece.offset === 0 && next !== 0) log.textContent = "";
      log.append(piece.text);
      next = piece.next;
      running = piece.running || piece.next < piece.size;
      if (atEnd) log.scrollTop = log.scrollHeight;
    } catch (problem) {
      if (problem.problem?.status === 404) running = false;
    }
  }
  document.getElementById("logstate").textContent = "the processor has ended";
}

if (log) {
  log.scrollTop = log.scrollHeight;
  if (log.dataset.running === "yes") follow();
}
