// Where to look, drawn on a photo: the two fields hold it, in pixels of the photo, and what is typed there is drawn.
const board = document.querySelector("[data-board]");
const [holes, lines] = board.querySelectorAll("g");
const photo = board.querySelector("image");
const photos = document.querySelector("[data-photos]");
const fields = { roi: document.querySelector("[name=roi]"), ignore: document.querySelector("[name=ignore]") };
const buttons = Object.fromEntries([...document.querySelectorAll("[data-do]")].map((one) => [one.dataset.do, one]));
const { width, height } = board.viewBox.baseVal;

let shapes = []; // each { kind: "roi" or "ignore", corners: [[x, y], ...] }
let chosen = null, corner = -1; // of the shapes, and of its corners
let draft = null; // the corners of a polygon that is not closed yet
let drag = null; // what to do with where the pointer is
let tool = "box", kind = "roi";
const texts = () => JSON.stringify([fields.roi.value, fields.ignore.value]);
let last = texts();
const before = []; // what the fields held before each change

const clip = (value, most) => Math.min(most, Math.max(0, value));
const px = () => 1 / board.getScreenCTM().a / visualViewport.scale; // of the photo in one of the screen

function box([x, y], [u, v]) {
  const [left, top, right, bottom] = [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

const isBox = (corners) => corners.length === 4 && String(box(corners[0], corners[2])) === String(corners);

function polygon(one) { // of a rectangle or corners as they are typed; null: neither
  if (!Array.isArray(one)) return null;
  if (one.length === 4 && one.every(Number.isFinite)) return box(one.slice(0, 2), one.slice(2));
  const isCorner = (each) => Array.isArray(each) && each.length === 2 && each.every(Number.isFinite);
  return one.length > 2 && one.every(isCorner) ? one : null;
}

function parse(text) { // as the setting does
  let given = null;
  try { given = JSON.parse(text); } catch { /* it is not drawn */ }
  if (!Array.isArray(given)) return [];
  const single = polygon(given), found = single ? [single] : given.map(polygon);
  if (found.includes(null)) return [];
  const [across, down] = Math.max(...found.flat(2)) > 1 ? [1, 1] : [width, height];
  return found.map((corners) => corners.map(([x, y]) => [+(x * across).toFixed(2), +(y * down).toFixed(2)]));
}

function read() {
  shapes = Object.entries(fields).flatMap(([kind, field]) => parse(field.value).map((corners) => ({ kind, corners })));
  [chosen, corner, draft] = [null, -1, null];
  draw();
}

function write() { // what is typed and cannot be drawn stays
  for (const [kind, field] of Object.entries(fields)) {
    const all = shapes.filter((one) => one.kind === kind).map(({ corners }) => (isBox(corners) ? [...corners[0], ...corners[2]] : corners));
    if (all.length || parse(field.value).length) field.value = all.length ? JSON.stringify(all.length > 1 ? all : all[0]) : "";
  }
}

function keep() { // a change is over
  write();
  if (texts() !== last) { before.push(last); last = texts(); }
  draw();
}

function add(to, name, attributes) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) one.setAttribute(key, value);
  to.append(one);
}

const sides = (corners) => corners.map(([x, y], place) => [(x + corners.at(place - 1)[0]) / 2, (y + corners.at(place - 1)[1]) / 2]);

function draw(end = []) { // `end`: where the next corner of a polygon would be
  holes.replaceChildren();
  lines.replaceChildren();
  if (!shapes.some((one) => one.kind === "roi")) add(holes, "rect", { width, height, fill: "#000" });
  for (const one of ["roi", "ignore"].flatMap((kind) => shapes.filter((one) => one.kind === kind))) add(holes, "polygon", { points: one.corners, fill: one.kind === "roi" ? "#000" : "#fff" });
  for (const one of shapes) add(lines, "polygon", { points: one.corners, class: `${one.kind} ${one === chosen ? "chosen" : ""}` });
  if (draft) add(lines, "polyline", { points: [...draft, ...end], class: `${kind} chosen` });
  for (const [cx, cy] of chosen && !draft ? sides(chosen.corners) : []) add(lines, "circle", { cx, cy, r: 4 * px() });
  (draft ?? chosen?.corners ?? []).forEach(([cx, cy], place) => add(lines, "circle", { cx, cy, r: 7 * px(), class: place === corner ? "chosen" : "" }));
  for (const field of Object.values(fields)) field.setAttribute("aria-invalid", !["", "auto"].includes(field.value.trim()) && !parse(field.value).length);
  buttons.undo.disabled = !draft && !before.length;
  buttons.corner.disabled = !chosen || corner < 0 || chosen.corners.length < 4;
  buttons.shape.disabled = !draft && !chosen;
}

function place(event) {
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(board.getScreenCTM().inverse());
  return [clip(Math.round(at.x), width), clip(Math.round(at.y), height)];
}

function nearest(points, [x, y], event) { // the place of the one that is meant; -1: none
  const far = points.map(([u, v]) => Math.hypot(u - x, v - y));
  const least = Math.min(...far);
  return least < px() * (event.pointerType === "mouse" ? 10 : 22) ? far.indexOf(least) : -1;
}

function pick(at) { // the one on top there
  const place = shapes.findLastIndex((_, place) => lines.children[place].isPointInFill(new DOMPoint(...at)));
  [chosen, corner] = [shapes[place] ?? null, -1];
  if (chosen) press("kind", chosen.kind);
}

function press(what, value) {
  if (what === "tool") tool = value;
  else kind = value;
  for (const one of document.querySelectorAll(`[data-${what}]`)) one.setAttribute("aria-pressed", one.dataset[what] === value);
}

function close() { // a polygon that is being drawn
  if (draft?.length > 2) shapes.push(chosen = { kind, corners: draft });
  [draft, corner] = [null, -1];
  keep();
}

function hold(at, event) { // a corner of the chosen shape, or a new one between two; whether there is one
  const { corners } = chosen;
  corner = nearest(corners, at, event);
  if (corner >= 0 && isBox(corners)) {
    const across = corners[(corner + 2) % 4];
    corner = -1;
    drag = (to) => { chosen.corners = box(across, to); };
  } else {
    if (corner < 0 && (corner = nearest(sides(corners), at, event)) < 0) return false;
    if (nearest(corners, at, event) < 0) corners.splice(corner, 0, at);
    drag = (to) => { corners[corner] = to; };
  }
  return true;
}

function move(at) { // the shape that lies there
  pick(at);
  const from = chosen?.corners ?? [], [xs, ys] = [0, 1].map((axis) => from.map((one) => one[axis]));
  drag = ([x, y]) => {
    const right = Math.max(-Math.min(...xs), Math.min(width - Math.max(...xs), x - at[0]));
    const down = Math.max(-Math.min(...ys), Math.min(height - Math.max(...ys), y - at[1]));
    if (chosen) chosen.corners = from.map(([u, v]) => [u + right, v + down]);
  };
}

board.addEventListener("pointerdown", (event) => {
  if (event.button || drag || !event.isPrimary) return;
  const at = place(event);
  board.setPointerCapture(event.pointerId);
  if (draft?.length > 2 && nearest([draft[0], draft.at(-1)], at, event) >= 0) return close();
  if (chosen && !draft && hold(at, event)) return draw();
  if (draft || tool === "polygon") {
    draft = [...(draft ?? []), at];
    chosen = null;
    drag = (to) => { draft[draft.length - 1] = to; };
  } else if (tool === "box") {
    shapes.push(chosen = { kind, corners: box(at, at) });
    drag = (to) => { chosen.corners = box(at, to); };
  } else move(at);
  draw();
});

board.addEventListener("pointermove", (event) => {
  if (!drag) return draft && draw([place(event)]);
  drag(place(event));
  write();
  draw();
});

board.addEventListener("pointerup", (event) => {
  if (!drag) return;
  drag = null;
  const [from, , to] = chosen?.corners ?? [];
  if (chosen && isBox(chosen.corners) && (Math.hypot(to[0] - from[0], to[1] - from[1]) < 6 * px() || to[0] === from[0] || to[1] === from[1])) {
    shapes = shapes.filter((one) => one !== chosen); // it was a click
    draw();
    pick(place(event));
  }
  keep();
});

board.addEventListener("pointercancel", () => { // a second finger has come, which zooms
  if (!drag) return;
  drag = null;
  if (draft) return undo();
  [fields.roi.value, fields.ignore.value] = JSON.parse(last);
  read();
});

function undo() {
  if (draft) draft = draft.length > 1 ? draft.slice(0, -1) : null;
  else if (before.length) {
    [fields.roi.value, fields.ignore.value] = JSON.parse(last = before.pop());
    return read();
  }
  draw();
}

function remove(isCorner) {
  if (isCorner) chosen.corners.splice(corner, 1);
  else if (draft) draft = null;
  else [shapes, chosen] = [shapes.filter((one) => one !== chosen), null];
  corner = -1;
  keep();
}

for (const one of document.querySelectorAll("[data-tools]")) one.hidden = false;
for (const one of document.querySelectorAll("[data-tool]")) one.addEventListener("click", () => { close(); press("tool", one.dataset.tool); });
for (const one of document.querySelectorAll("[data-kind]")) one.addEventListener("click", () => {
  close();
  press("kind", one.dataset.kind);
  if (chosen) chosen.kind = kind;
  keep();
});
buttons.undo.addEventListener("click", undo);
buttons.corner.addEventListener("click", () => remove(true));
buttons.shape.addEventListener("click", () => remove(false));
for (const field of Object.values(fields)) {
  field.addEventListener("input", read);
  field.addEventListener("change", keep);
}
board.closest("form").addEventListener("submit", close);
photos.addEventListener("change", () => photo.setAttribute("href", photos.value));
photo.addEventListener("error", () => { document.querySelector("[data-unread]").hidden = false; });
photo.addEventListener("load", () => { document.querySelector("[data-unread]").hidden = true; });

document.addEventListener("keydown", (event) => {
  if (event.target.closest?.("input, select, textarea")) return;
  const key = event.key.toLowerCase();
  if (key === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); undo(); }
  else if (key === "delete" && !buttons.corner.disabled) remove(true);
  else if (key === "delete" && !buttons.shape.disabled) remove(false);
  else if (key === "escape" && draft) remove(false);
  else if (key === "enter" && draft && !event.target.closest?.("button, a")) close();
});

addEventListener("pageshow", read); // also with what was typed before one went and came back
new ResizeObserver(() => draw()).observe(board);
visualViewport.addEventListener("resize", () => draw());
