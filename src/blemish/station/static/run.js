// How far a run is, until it ends.
const box = document.querySelector("[data-run]");
const log = document.querySelector("[data-log]");
if (log) log.scrollTop = log.scrollHeight;

async function look() {
  const answer = await fetch(`/runs/${box.dataset.run}/state`);
  if (!answer.ok) return setTimeout(look, 5000);
  const now = await answer.json();
  if (!now.is_open) return location.reload();
  if (log.textContent !== now.log) { log.textContent = now.log; log.scrollTop = log.scrollHeight; }
  if (now.progress) {
    const bar = box.querySelector("progress");
    bar.max = now.progress.total;
    bar.value = now.progress.done;
    box.querySelector("[data-what]").textContent = now.progress.what;
    box.querySelector("[data-done]").textContent = `${now.progress.done} / ${now.progress.total} ${now.progress.note}`;
  }
  setTimeout(look, 1000);
}

if (box) setTimeout(look, 1000);
