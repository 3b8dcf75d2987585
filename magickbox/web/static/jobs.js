// The list of jobs: choose all, how many are chosen, and new jobs as they come while nothing is chosen or scrolled.

const shown = () => document.getElementById("rows"); // it is replaced when new jobs come
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
document.addEventListener("live:jobs", () => {
  const rows = shown();
  const idle = rows?.dataset.first && pages === 1 && window.scrollY < 200 && !boxes().some((box) => box.checked);
  if (idle && !rows.contains(document.activeElement)) {
    window.htmx.ajax("GET", rows.dataset.first, { target: "#rows", select: "#rows", swap: "outerHTML" });
  }
});
