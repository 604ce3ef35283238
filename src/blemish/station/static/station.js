// What every page does: times of this place, one key between photo and heat map, and forms that a choice sends.
export const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

const language = navigator.languages.find((one) => one.startsWith(document.documentElement.lang)) ?? document.documentElement.lang;

function writeTimes(root, isForPaper = false) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const at = new Date(one.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const isToday = at.toDateString() === new Date().toDateString();
    one.textContent = isToday && !isForPaper ? at.toLocaleTimeString(language) : at.toLocaleString(language);
    one.title = one.dateTime;
  }
}

addEventListener("beforeprint", () => writeTimes(document, true)); // paper is read on other days
addEventListener("afterprint", () => writeTimes(document));

export function localTimes(root) {
  writeTimes(root);
  for (const one of root.querySelectorAll("[data-zone]")) {
    const at = one.dataset.zone ? new Date(one.dataset.zone) : new Date();
    if (Number.isNaN(at.getTime())) continue;
    const parts = new Intl.DateTimeFormat(language, { timeZoneName: "short" }).formatToParts(at);
    one.textContent = parts.find((part) => part.type === "timeZoneName").value;
  }
  for (const one of root.querySelectorAll("input[data-utc]")) {
    const sent = one.defaultValue && new Date(`${one.defaultValue}Z`);
    if (sent) one.value = new Date(sent.getTime() - 60000 * sent.getTimezoneOffset()).toISOString().slice(0, 19);
    one.form.addEventListener("formdata", (event) => {
      const at = new Date(one.value);
      if (!Number.isNaN(at.getTime())) event.formData.set(one.name, at.toISOString().slice(0, 19));
    });
  }
}

// On a telephone the names of the pages are a row to move: this one's stands in the middle.
const here = document.querySelector(".top nav [aria-current]");
if (here) here.parentElement.scrollLeft = here.offsetLeft - (here.parentElement.clientWidth - here.offsetWidth) / 2;

const failed = document.querySelector("[data-failed]");

// What a script says to the station; whether it was taken. Where it was not, the page says why.
export async function post(address, fields) {
  let why = failed.dataset.failed;
  try {
    const headers = { Accept: "application/json", "X-CSRF-Token": csrf };
    const answer = await fetch(address, { method: "POST", body: new URLSearchParams(fields), headers });
    failed.hidden = answer.ok;
    if (answer.ok) return true;
    if (answer.status === 401) return location.reload(); // logs in, and comes back
    why = (await answer.json()).error;
  } catch { /* it is away */ }
  failed.textContent = why;
  failed.hidden = false;
}

// The page again, once the station answers: what a browser says of one that is away leads nowhere.
export function reloadWhenThere() {
  fetch("/healthz").then((answer) => answer.ok || Promise.reject()).then(() => location.reload(), () => setTimeout(reloadWhenThere, 2000));
}

export function isTyping(event) {
  return event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea, [contenteditable]");
}

let showing = null;

export function toggle(image) {
  image.src = image.src.replace(/\/(photo|map)\.jpg/, `/${showing}.jpg`);
}

document.addEventListener("keydown", (event) => {
  const images = document.querySelectorAll("img[data-toggle]");
  if (event.key !== " " || isTyping(event) || event.target.closest?.("button, a, summary") || !images.length) return;
  event.preventDefault();
  showing = showing === "photo" ? "map" : "photo";
  images.forEach(toggle);
});

for (const one of document.querySelectorAll("[data-submit]")) one.addEventListener("change", () => one.form.requestSubmit());

for (const one of document.querySelectorAll("[data-confirm]")) one.addEventListener("submit", (event) => { if (!confirm(one.dataset.confirm)) event.preventDefault(); });

// What is pressed twice is sent once; but after a while once more, for who stopped the page from loading.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "get") return;
  if (form.hasAttribute("data-sent")) return event.preventDefault();
  form.toggleAttribute("data-sent", true);
  setTimeout(() => form.removeAttribute("data-sent"), 10000);
});
addEventListener("pageshow", () => { for (const one of document.querySelectorAll("form[data-sent]")) one.removeAttribute("data-sent"); });

for (const one of document.querySelectorAll("[data-back]")) one.addEventListener("click", (event) => { if (history.length > 1) { event.preventDefault(); history.back(); } }); // with what was typed there

for (const one of document.querySelectorAll("[data-print]")) { one.hidden = false; one.addEventListener("click", () => window.print()); }

const shown = new URL(location);
if (shown.searchParams.has("noted")) { shown.searchParams.delete("noted"); history.replaceState(null, "", shown); } // said once

export const isShowing = () => showing;
localTimes(document);
