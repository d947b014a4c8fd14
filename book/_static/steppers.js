// Steppers: each box shows one frame of its data and has two buttons and a slider. `tfguide/figures/steppers.py` writes the
// box, its data and the first frame.
"use strict";

(() => {
  const made = (kind, name, text) => Object.assign(document.createElement(kind), { className: name, textContent: text });

  const lines = (frame) => [
    made("p", "stepper-says", frame.says),
    ...frame.rows.map((row) => {
      const line = made("div", "stepper-row", ""), cells = made("span", "stepper-cells", "");
      cells.append(...row.cells.map((cell) => made("span", `stepper-cell ${cell.state}`.trim(), cell.text)));
      line.append(made("span", "stepper-name", row.name), cells);
      return line;
    }),
  ];

  const start = (box) => {
    const frames = JSON.parse(box.querySelector("script").textContent), shown = box.querySelector(".stepper-frame");
    const bar = made("div", "stepper-bar", ""), where = made("span", "stepper-where", "");
    const [back, on] = [["Back", "one step back"], ["Next", "one step on"]].map(([text, label]) =>
      Object.assign(made("button", "stepper-button", text), { type: "button", ariaLabel: label }),
    );
    const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: frames.length - 1, value: 0 });
    slider.setAttribute("aria-label", "step");
    // The tallest frame gives the box its height, or the text below would jump with every step.
    const settle = () => {
      const now = [...shown.childNodes];
      shown.style.minHeight = "";
      const heights = frames.map((frame) => (shown.replaceChildren(...lines(frame)), shown.getBoundingClientRect().height));
      shown.replaceChildren(...now);
      shown.style.minHeight = `${Math.max(...heights)}px`;
    };
    // What belongs to one frame of a drawing is a group whose identifier ends in "step-" and the frame's number.
    const drawn = [...box.querySelectorAll(".stepper-drawing [id*='step-']")].map((group) => [group, +group.id.match(/\d+$/)]);
    const show = (k) => {
      slider.value = k;
      back.disabled = k === 0;
      on.disabled = k === frames.length - 1;
      where.textContent = `${k + 1} of ${frames.length}`;
      slider.setAttribute("aria-valuetext", where.textContent);
      shown.replaceChildren(...lines(frames[k]));
      for (const [group, at] of drawn) group.setAttribute("visibility", at === k ? "visible" : "hidden");
    };
    back.addEventListener("click", () => show(+slider.value - 1));
    on.addEventListener("click", () => show(+slider.value + 1));
    slider.addEventListener("input", () => show(+slider.value));
    bar.append(back, slider, on, where);
    box.insertBefore(bar, shown.nextSibling);
    show(0);
    settle();
    let width = innerWidth;
    addEventListener("resize", () => width !== innerWidth && ((width = innerWidth), settle()));
  };

  const all = () => document.querySelectorAll(".stepper").forEach(start);
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", all);
  else all();
})();
