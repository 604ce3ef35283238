// One key judges, and judges one image: what is held down is not said of the next one, nor what is pressed twice.
import { isTyping } from "/static/station.js";

const form = document.querySelector("[data-audit]");
document.addEventListener("keydown", (event) => {
  const said = { g: "good", d: "defective", u: "unsure" }[event.key.toLowerCase()];
  if (!form || !said || event.repeat || isTyping(event)) return;
  form.requestSubmit(form.querySelector(`button[value=${said}]`));
});
