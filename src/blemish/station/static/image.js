// Zoom, move, and one picture for the other.
import { isTyping } from "/static/station.js";

const stage = document.querySelector("[data-stage]");
const image = stage?.querySelector("[data-show]");
const picks = [...document.querySelectorAll("[data-pick]")];
let scale = 1, x = 0, y = 0, from = null;

function draw() {
  scale = Math.min(12, Math.max(1, scale));
  if (scale === 1) { x = 0; y = 0; }
  image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
}

function pick(one) {
  image.src = one.href;
  for (const other of picks) other.toggleAttribute("aria-current", other === one);
}

function zoom(by, at) {
  const before = scale;
  scale = Math.min(12, Math.max(1, scale * by));
  if (at) {
    const box = stage.getBoundingClientRect();
    const [dx, dy] = [at.clientX - box.left - box.width / 2, at.clientY - box.top - box.height / 2];
    x = dx - (dx - x) * (scale / before);
    y = dy - (dy - y) * (scale / before);
  }
  draw();
}

if (stage) {
  for (const one of picks) one.addEventListener("click", (event) => { event.preventDefault(); pick(one); });
  stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.25 : 0.8, event); }, { passive: false });
  stage.addEventListener("pointerdown", (event) => { from = [event.clientX - x, event.clientY - y]; stage.setPointerCapture(event.pointerId); });
  stage.addEventListener("pointermove", (event) => { if (from && scale > 1) { x = event.clientX - from[0]; y = event.clientY - from[1]; draw(); } });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { from = null; });
  image.draggable = false;
  document.addEventListener("keydown", (event) => {
    if (isTyping(event)) return;
    if (event.key === " " && !event.target.closest?.("button, a")) {
      event.preventDefault();
      const at = picks.findIndex((one) => one.hasAttribute("aria-current"));
      pick(picks[(at + 1) % picks.length]);
    } else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") { scale = 1; draw(); }
  });
}
