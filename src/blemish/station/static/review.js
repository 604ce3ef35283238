// j and k go through the rejects, one key judges.
import { isTyping, post } from "/static/station.js";

const cards = document.querySelector("[data-review]");
const types = JSON.parse(cards.dataset.types);
const left = document.querySelector("[data-left]");
const last = document.querySelector("[data-last]");
let here = cards.querySelector(".card");

function go(to) {
  if (!to) return;
  here?.removeAttribute("data-here");
  here = to;
  here.setAttribute("data-here", "");
  here.focus({ preventScroll: true });
  here.scrollIntoView({ block: "nearest" });
}

function tell(card, said) {
  const link = last.querySelector("a");
  link.href = `/images/${card.dataset.image}`;
  link.textContent = card.querySelector(".name").title;
  last.querySelector("b").textContent = said;
  last.hidden = false;
  left.textContent = Math.max(0, Number(left.textContent) - 1);
}

async function judge(card, judgement, type) {
  if (card.hasAttribute("data-sent")) return;
  card.toggleAttribute("data-sent", true);
  const isTaken = await post("/verdict", { image_id: card.dataset.image, judgement, defect_type: type });
  if (!isTaken) return card.toggleAttribute("data-sent", false);
  tell(card, type || card.querySelector(`button[value=${judgement}]`).textContent);
  const next = card.nextElementSibling ?? card.previousElementSibling;
  card.remove();
  if (card !== here) return;
  if (next) go(next);
  else location.reload();
}

cards.addEventListener("submit", (event) => {
  event.preventDefault();
  judge(event.target.closest(".card"), event.submitter.value, "");
});

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || !here) return;
  const key = event.key.toLowerCase();
  const said = { a: "defective", f: "good", u: "unsure" }[key];
  const type = types[Number(key) - 1];
  const judges = here.querySelector("form") && !event.repeat; // a key that is held down judges one image
  if (key === "j") go(here.nextElementSibling);
  else if (key === "k") go(here.previousElementSibling);
  else if (key === "z" && !last.hidden) location.href = last.querySelector("a").href;
  else if (judges && said) judge(here, said, "");
  else if (judges && type) judge(here, "defective", type);
  else if (key === "enter" && event.target === here) location.href = here.querySelector("a").href;
});

if (here) go(here);
