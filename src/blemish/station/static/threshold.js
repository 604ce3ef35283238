// The slider says what each threshold guarantees and what it would have done.
const form = document.querySelector("[data-threshold]");
if (form) {
  const options = JSON.parse(form.dataset.options); // [threshold, what is guaranteed, flagged, the threshold as text]
  const places = JSON.parse(form.dataset.places);
  const slider = form.querySelector("[data-slider]");
  const line = form.querySelector("[data-line]");
  const at = document.querySelector("[data-at]");
  const expected = document.querySelector("[data-expected]");
  slider.addEventListener("input", () => {
    const far = places.map((place) => Math.abs(place - slider.value));
    const chosen = far.indexOf(Math.min(...far));
    const [threshold, rate, flagged, text] = options[chosen];
    form.querySelector("[data-rate]").textContent = rate === "-" ? form.dataset.nothing : rate;
    form.querySelector("[data-flagged]").textContent = flagged;
    form.querySelector("[data-value]").textContent = text;
    for (const end of ["x1", "x2"]) line.setAttribute(end, places[chosen]);
    if (at) { at.value = places[chosen]; expected.value = threshold; }
  });
}
