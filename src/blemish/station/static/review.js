// j and k go through the rejects, one key judges.
import { csrf, isTyping } from "/static/station.js";

const cards = document.querySelector("[data-review]");
const types = JSON.parse(cards.dataset.types);
let here = cards.querySelector(".card");

function go(to) {
  if (!to) return;
  here?.removeAttribute("data-here");
  here = to;
  here.setAttribute("data-here", "");
  here.focus({ preventScroll: true });
  here.scrollIntoView({ block: "nearest" });
}

async function judge(card, judgement, type) {
  const body = new URLSearchParams({ image_id: card.dataset.image, judgement, defect_type: type });
  const answer = await fetch("/verdict", { method: "POST", body, headers: { "X-CSRF-Token": csrf } });
  if (!answer.ok) return location.reload();
  const next = card.nextElementSibling ?? card.previousElementSibling;
  card.remove();
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
  if (key === "j") go(here.nextElementSibling);
  else if (key === "k") go(here.previousElementSibling);
  else if (here.querySelector("form") && said) judge(here, said, "");
  else if (here.querySelector("form") && type) judge(here, "defective", type);
  else if (key === "enter" && event.target === here) location.href = here.querySelector("a").href;
});

if (here) go(here);
