// The list of jobs: choose all, how many are chosen, and new jobs as they come while nothing is chosen or scrolled.

const EVERY = 2000;
const shown = () => document.getElementById("rows"); // none while there are no jobs
const all = document.getElementById("all");
const howmany = document.getElementById("howmany");

const boxes = () => [...document.querySelectorAll('#rows input[name="job"]')];

function count() {
  if (!howmany) return;
  const chosen = boxes().filter((box) => box.checked).length;
  howmany.textContent = chosen ? `With the ${chosen} chosen:` : "With the chosen jobs:";
  for (const button of document.querySelectorAll(".bulk button")) button.disabled = chosen === 0;
  if (all) all.checked = chosen > 0 && chosen === boxes().length;
}

if (all) {
  all.hidden = false;
  all.addEventListener("change", () => { for (const box of boxes()) box.checked = all.checked; count(); });
}
document.getElementById("chosen")?.addEventListener("change", count);
count();

let pages = 1;
document.addEventListener("htmx:afterSwap", (event) => { if (event.detail.pathInfo?.requestPath.includes("cursor=")) pages += 1; count(); });
// One look for a burst of news: the counts always, the rows while nobody has chosen, scrolled or loaded more.
let due = 0;
document.addEventListener("live:jobs", () => { due ||= setTimeout(refresh, EVERY); });

async function refresh() {
  try {
    const states = document.getElementById("states");
    const answer = await fetch(states.dataset.here, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!states.contains(document.activeElement)) states.replaceChildren(...fresh.getElementById("states").children);
    const rows = shown();
    const idle = rows?.dataset.first && pages === 1 && window.scrollY < 200 && !boxes().some((box) => box.checked);
    const found = fresh.getElementById("rows");
    if (found && !rows) return void location.reload(); // the first job
    if (idle && found && !rows.contains(document.activeElement)) {
      rows.replaceChildren(...found.children);
      window.htmx.process(rows);
      count();
    }
  } catch {
    // the window may be restarting; the next news tries again
  } finally {
    due = 0;
  }
}
