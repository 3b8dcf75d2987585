// What every page does: htmx brings the session's CSRF value along, and shows what went wrong in the line at the foot.
// A link or button with data-confirm asks before it acts; one with data-copy copies the text of the element it names.

const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";

document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = csrf;
});

export function say(text, kind = "") {
  const line = document.getElementById("said");
  line.className = `said ${kind}`;
  line.textContent = text;
  clearTimeout(line.timer);
  line.timer = setTimeout(() => { line.textContent = ""; }, kind === "bad" ? 12000 : 6000);
}

// The API as fetch, with the CSRF value; rejects with the problem's words.
export async function api(path, options = {}) {
  const headers = { Accept: "application/json", "X-CSRF-Token": csrf, ...options.headers };
  const answer = await fetch(`/api/v1${path}`, { ...options, headers });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(problem.detail || problem.title || `status ${answer.status}`), { problem });
}

function words(xhr) {
  try {
    const page = new DOMParser().parseFromString(xhr.responseText, "text/html");
    return page.querySelector(".problem")?.textContent.trim() || `status ${xhr.status}`;
  } catch {
    return `status ${xhr.status}`;
  }
}

document.addEventListener("htmx:responseError", (event) => say(words(event.detail.xhr), "bad"));
document.addEventListener("htmx:sendError", () => say("the window does not answer", "bad"));
document.addEventListener("said", (event) => say(event.detail.value ?? event.detail, "good"));

document.addEventListener("submit", (event) => {
  const asked = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (asked && !window.confirm(asked)) event.preventDefault();
}, true);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.querySelector(button.dataset.copy).textContent.trim();
  try {
    await navigator.clipboard.writeText(text);
    say("copied", "good");
  } catch {
    const range = document.createRange();
    range.selectNodeContents(document.querySelector(button.dataset.copy));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    say("marked; copy it with Ctrl+C");
  }
});
