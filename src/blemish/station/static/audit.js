// One key judges, and judges one image: what is held down is not said of the next one, nor what is pressed twice.
import { isTyping } from "/static/station.js";

const form = document.querySelector("[data-audit]");
document.addEventListener("keydown", (event) => {
  const said = { g: "good", d: "defective", u: "unsure" }[event.key.toLowerCase()];
  const button = form?.querySelector(`[name=judgement][value=${said}]`) ?? form?.querySelectorAll("[name=defect_type]")[Number(event.key) - 1];
  if (button && !event.repeat && !isTyping(event)) form.requestSubmit(button);
});
