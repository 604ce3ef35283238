// Cards as they come, newest first.
import { isShowing, isTyping, localTimes, toggle } from "/static/station.js";

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
  const number = document.querySelector(`[data-count="${data.verdict}"]`);
  if (number) number.textContent = Number(number.textContent) + 1;
  document.querySelector('[data-count="waiting"]').textContent = data.waiting;
  document.querySelector("[data-growth]").textContent = data.growth ? (data.growth > 0 ? "+" : "") + data.growth : "";
}

const address = new URL("/live/events", location);
address.searchParams.set("after", cards.dataset.live);
if (cards.dataset.product) address.searchParams.set("product", cards.dataset.product);
const events = new EventSource(address);
events.addEventListener("message", (event) => {
  const data = JSON.parse(event.data);
  count(data);
  if (isPaused) held.push(data);
  else show(data);
  if (held.length > MOST) held.shift();
});
let known = "";
events.addEventListener("state", (event) => { // what is promised, and what is wrong
  const { html } = JSON.parse(event.data);
  if (html === known) return;
  known = html;
  const box = document.querySelector("[data-state]");
  box.innerHTML = html; // escaped where it was made
  localTimes(box);
});
let timer = 0;
events.addEventListener("open", () => { clearTimeout(timer); lost.hidden = true; });
events.addEventListener("error", () => {
  clearTimeout(timer);
  timer = setTimeout(() => { lost.hidden = false; }, 4000);
  if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
});

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "p" || isTyping(event)) return;
  isPaused = !isPaused;
  cards.toggleAttribute("data-paused", isPaused);
  if (!isPaused) held.splice(0).forEach(show);
});
