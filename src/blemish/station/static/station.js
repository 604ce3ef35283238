// What every page does: times of this place, one key between photo and heat map, and forms that a choice sends.
export const csrf = document.querySelector("meta[name=csrf]")?.content ?? "";

export function localTimes(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const at = new Date(one.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const isToday = at.toDateString() === new Date().toDateString();
    const language = document.documentElement.lang;
    one.textContent = isToday ? at.toLocaleTimeString(language) : at.toLocaleString(language);
    one.title = one.dateTime;
  }
  for (const one of root.querySelectorAll("[data-zone]")) {
    const at = new Date(one.dataset.zone);
    if (Number.isNaN(at.getTime())) continue;
    const parts = new Intl.DateTimeFormat(document.documentElement.lang, { timeZoneName: "short" }).formatToParts(at);
    one.textContent = parts.find((part) => part.type === "timeZoneName").value;
  }
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

for (const one of document.querySelectorAll("[data-print]")) { one.hidden = false; one.addEventListener("click", () => window.print()); }

export const isShowing = () => showing;
localTimes(document);
