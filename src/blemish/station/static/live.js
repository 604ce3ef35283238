// Cards as they come, newest first.
import { isShowing, isTyping, localTimes, reloadWhenThere, toggle } from "/static/station.js";

const MOST = 48;
const cards = document.querySelector("[data-live]");
const lost = document.querySelector("[data-lost]");
let isPaused = false;
const held = [];

function show(data) {
  cards.insertAdjacentHTML("afterbegin", data.html); // escaped where it was made
  const card = cards.firstElementChild;
  card.classList.add("new");
  localTimes(card);
  const image = card.querySelector("img[data-toggle]");
  if (image && isShowing()) toggle(image);
  while (cards.children.length > MOST) cards.lastElementChild.remove();
  document.querySelector("[data-empty]")?.remove();
}

function count(data) {
  for (const [name, number] of Object.entries(data.counts)) document.querySelector(`[data-count="${name}"]`).textContent = number;
  document.querySelector(".counts .audit").hidden = !data.counts.audit;
  document.querySelector("[data-growth]").textContent = data.growth ? `${data.growth > 0 ? "+" : ""}${data.growth}/min` : "";
}

const address = new URL("/live/events", location);
address.searchParams.set("after", cards.dataset.live);
if (cards.dataset.product) address.searchParams.set("product", cards.dataset.product);
const events = new EventSource(address);
events.addEventListener("message", (event) => {
  const data = JSON.parse(event.data);
  if (isPaused) held.push(data);
  else show(data);
  if (held.length > MOST) held.shift();
});
let known = "";
events.addEventListener("state", (event) => { // what is promised, what is wrong, and how many there were
  const { html, ...counts } = JSON.parse(event.data);
  count(counts);
  if (html === known) return;
  known = html;
  const box = document.querySelector("[data-state]");
  box.innerHTML = html; // escaped where it was made
  localTimes(box);
});
// A browser has six connections to a station: pages that nobody sees leave them to others.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && !isPaused) events.close();
  else if (!document.hidden && events.readyState === EventSource.CLOSED) reloadWhenThere();
});

let timer = 0;
events.addEventListener("open", () => { clearTimeout(timer); timer = 0; lost.hidden = true; });
events.addEventListener("error", () => { // again with every try
  timer ||= setTimeout(() => { lost.hidden = false; }, 4000);
  if (events.readyState === EventSource.CLOSED) setTimeout(reloadWhenThere, 5000);
});

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "p" || event.repeat || isTyping(event)) return;
  isPaused = !isPaused;
  document.querySelector("[data-paused]").hidden = !isPaused;
  if (!isPaused) held.splice(0).forEach(show);
});
