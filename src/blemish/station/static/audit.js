// One key judges.
import { isTyping } from "/static/station.js";

const form = document.querySelector("[data-audit]");
document.addEventListener("keydown", (event) => {
  const said = { g: "good", d: "defective", u: "unsure" }[event.key.toLowerCase()];
  if (!form || !said || isTyping(event)) return;
  form.requestSubmit(form.querySelector(`button[value=${said}]`));
});
