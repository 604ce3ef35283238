// How far a run is, until it ends.
const box = document.querySelector("[data-run]");
const log = document.querySelector("[data-log]");
if (log) log.scrollTop = log.scrollHeight;

function show(now) {
  if (log.textContent !== now.log) { log.textContent = now.log; log.scrollTop = log.scrollHeight; }
  if (!now.progress) return;
  const bar = box.querySelector("progress");
  bar.max = now.progress.total;
  bar.value = now.progress.done;
  box.querySelector("[data-what]").textContent = now.progress.what;
  box.querySelector("[data-done]").textContent = `${now.progress.done} / ${now.progress.total} ${now.progress.note}`;
}

async function look() {
  const away = document.querySelector("[data-away]");
  let wait_ms = 5000;
  try {
    const answer = await fetch(`/runs/${box.dataset.run}/state`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) return location.reload(); // logs in, and comes back
    away.hidden = answer.ok;
    if (answer.ok) {
      const now = await answer.json();
      if (!now.is_open) return location.reload();
      show(now);
      wait_ms = 1000;
    }
  } catch {
    away.hidden = false;
  }
  setTimeout(look, wait_ms);
}

if (box) setTimeout(look, 1000);
