// One key judges, and judges one image: what is pressed twice or held down is not said of the next one.
import { isTyping } from "/static/station.js";

const form = document.querySelector("[data-audit]");
let isSent = false;
form?.addEventListener("submit", (event) => {
  if (isSent) event.preventDefault();
  isSent = true;
});
addEventListener("pageshow", () => { isSent = false; });
document.addEventListener("keydown", (event) => {
  const said = { g: "good", d: "defective", u: "unsure" }[event.key.toLowerCase()];
  if (!form || !said || event.repeat || isTyping(event)) return;
  form.requestSubmit(form.querySelector(`button[value=${said}]`));
});
