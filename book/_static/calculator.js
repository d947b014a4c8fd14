// The calculator of "What a token costs". The arithmetic is that of tfguide.cost.step, and a test compares the two.
"use strict";

(function () {
  const ACTIVATION_BYTES = 2;

  // ---- arithmetic: no page, no state

  function meshes(chips) {
    const found = [];
    for (let x = 1; x <= chips; ++x)
      for (let y = 1; x * y <= chips; ++y) if (chips % (x * y) === 0) found.push([x, y, chips / x / y]);
    return found;
  }

  // The elements that one chip sends for a feed-forward layer: of weights, of activations, and of those the ones that
  // attention sends once more.
  function sent(layout, tokens, D, F, mesh, gated) {
    const [X, Y, Z] = mesh, P = X * Y * Z, up = gated ? 2 : 1;
    const part = (elements, p) => (elements * (p - 1)) / p;
    if (layout === "1d-ws") {
      const ends = 2 * part(tokens * D, P);
      return { weights: 0, ends, all: ends };
    }
    if (layout === "2d-ws") {
      const ends = 2 * part((tokens * D) / X, Y * Z);
      return { weights: 0, ends, all: ends + part((up * tokens * F) / (Y * Z), X) + part((tokens * F) / (Y * Z), X) };
    }
    const p = { "wg-x": X, "wg-xy": X * Y, "wg-xyz": P }[layout];
    const weights = part(((up + 1) * D * F * p) / P, p);
    const ends = layout === "wg-xyz" || p === P ? 0 : 2 * part((tokens * D) / p, P / p);
    return { weights, ends, all: ends };
  }

  // The bytes that one chip sends for a layer, on the mesh where they are fewest.
  function fewestBytes(model, given, tokens, weightBytes) {
    const matrices = (model.gated ? 3 : 2) * model.width * model.hidden;
    const each = meshes(given.chips).map((mesh) => {
      const one = sent(given.layout, tokens, model.width, model.hidden, mesh, model.gated);
      // The weights of attention are gathered alike; a block that is not parallel has two inputs and two outputs.
      const weights = one.weights * weightBytes * (1 + model.attentionElements / matrices);
      return weights + (one.all + (model.parallel ? 0 : one.ends)) * ACTIVATION_BYTES;
    });
    const P = given.chips, queries = given.attention === "batch" ? (2 * tokens * model.headFeatures * (P - 1)) / P / P : 0;
    return Math.min(...each) + queries * ACTIVATION_BYTES;
  }

  // Pairs of a query position and a key position that it sees, in all layers.
  function pairs(model, context, newTokens) {
    const first = context - newTokens + 1;
    const inside = (seen) => {
      const growing = Math.max(0, seen - first);
      return (growing * (2 * first + growing - 1)) / 2 + (newTokens - growing) * seen;
    };
    const sliding = model.slidingLayers;
    return (model.layers - sliding) * inside(context) + (sliding ? sliding * inside(Math.min(context, model.window)) : 0);
  }

  // What is wrong with the counts of a workload: a message for each field that is not a count. A chip without links
  // works alone.
  function mistakes(given, chip) {
    const found = {};
    for (const [name, most] of [["chips", chip.link_bandwidth ? 1024 : 1], ["batch", 1e6], ["context", 1e8]]) {
      const value = given[name];
      if (!Number.isInteger(value) || value < 1 || value > most)
        found[name] =
          most === 1 ? "this chip has no links to others: 1 is expected"
            : `a whole number from 1 to ${most.toLocaleString("en-US")} is expected`;
    }
    return found;
  }

  function check(data, given) {
    const names = { model: data.models, chip: data.chips, weights: data.bytes, kv: data.bytes };
    for (const [name, known] of Object.entries({ ...names, layout: data.layouts, attention: data.attentions })) {
      const all = Array.isArray(known) ? known : Object.keys(known);
      if (!all.includes(given[name])) throw new RangeError(`${name} must be one of ${all.join(", ")}, got ${given[name]}`);
    }
    for (const [name, wrong] of Object.entries(mistakes(given, data.chips[given.chip]))) throw new RangeError(`${name}: ${wrong}, got ${given[name]}`);
    if (!Number.isInteger(given.newTokens) || given.newTokens < 1 || given.newTokens > given.context)
      throw new RangeError(`newTokens must be from 1 to the context, got ${given.newTokens}`);
  }

  // The workload of tfguide.cost.step, with its defaults.
  const DEFAULTS = { newTokens: 1, weights: "bfloat16", kv: "bfloat16", layout: "2d-ws", attention: "batch" };

  function step(data, workload) {
    const given = { ...DEFAULTS, ...workload };
    check(data, given);
    const model = data.models[given.model], chip = data.chips[given.chip], chips = given.chips;
    const tokens = given.batch * given.newTokens;
    const weightBytes = data.bytes[given.weights], kvBytes = data.bytes[given.kv];
    const pairFlops = given.newTokens === 1 ? model.pairFlopsOfStep : model.pairFlops;
    const attending = given.batch * pairs(model, given.context, given.newTokens) * pairFlops;
    const flops = tokens * model.tokenFlops + given.batch * model.headFlops + attending;
    // A sequence, or a head, is not divided: the busiest chip has one more than the others, or the only one.
    const units = given.attention === "batch" ? given.batch : model.heads;
    const busiest = (flops - attending) / chips + (attending * Math.ceil(units / chips)) / units;
    const unseen = model.experts ? Math.pow(1 - model.expertsOfToken / model.experts, tokens) * model.experts : 0;
    const read = (model.read - unseen * model.expertElements) * weightBytes;
    const kept = // by a layer, on average
      given.context - (model.slidingLayers / model.layers) * Math.max(0, given.context - model.window);
    const share =
      given.attention === "batch"
        ? Math.ceil(given.batch / chips) / given.batch
        : Math.ceil(model.kvHeads / chips) / model.kvHeads;
    const cache = given.batch * kept * model.kvElements * kvBytes * share;
    const bytes = fewestBytes(model, given, tokens, weightBytes);
    const out = {
      flops,
      read,
      kept,
      share,
      busiest,
      compute_s: busiest / chip.peak_flops,
      weights_s: read / (chips * chip.hbm_bandwidth),
      kv_s: cache / chip.hbm_bandwidth,
      communication_s: chips > 1 ? (model.layers * bytes) / chip.link_bandwidth : 0,
      sent: chips > 1 ? model.layers * bytes : 0,
      weight_bytes_per_chip: (model.parameters * weightBytes) / chips,
      kv_bytes_per_chip: cache,
    };
    out.roofline_s = Math.max(out.compute_s, out.weights_s + out.kv_s);
    out.serial_s = out.compute_s + out.weights_s + out.kv_s + out.communication_s;
    return out;
  }

  // ---- numbers for people

  function digits(x, n = 3) {
    if (x === 0) return "0";
    if (x >= 100000) return Math.round(x).toLocaleString("en-US");
    return Number(x.toPrecision(n)).toLocaleString("en-US", { maximumSignificantDigits: n });
  }
  function seconds(s) {
    if (s === 0) return "0";
    if (s < 1e-3) return `${digits(s * 1e6)} µs`;
    return s < 1 ? `${digits(s * 1e3)} ms` : `${digits(s)} s`;
  }
  const gigabytes = (bytes) => `${digits(bytes / 1e9)} GB`;

  // ---- the page

  const FIELDS = [
    ["model", "Model", "models", "llama-3-70b"],
    ["chip", "Chip", "chips", "h100"],
    ["chips", "How many chips", null, 8],
    ["batch", "Sequences at once (batch)", null, 32],
    ["context", "Tokens of each (context)", null, 8192],
    ["weights", "Type of the weights", "bytes", "bfloat16"],
    ["kv", "Type of the cache", "bytes", "bfloat16"],
    ["attention", "Cache divided by", "attentions", "batch"],
    ["layout", "Layout on the mesh", "layouts", "2d-ws"],
  ];

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function row(name, value, formula) {
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value), element("td", {}, formula));
  }

  function report(data, given) {
    const chip = data.chips[given.chip], model = data.models[given.model], n = given.chips;
    const token = step(data, { ...given, newTokens: 1 });
    const prompt = step(data, { ...given, newTokens: given.context });
    const used = token.weight_bytes_per_chip + token.kv_bytes_per_chip, free = chip.hbm_bytes - used;
    const speed = given.batch / token.serial_s;
    const over = (amount, rate) => (n > 1 ? `${amount} / (${n} × ${rate})` : `${amount} / ${rate}`);
    const bandwidth = `${digits(chip.hbm_bandwidth / 1e9, 4)} GB/s`, peak = `${digits(chip.peak_flops / 1e12, 4)} TFLOP/s`;
    return [
      ["Memory of each chip", [
        ["weights", gigabytes(token.weight_bytes_per_chip),
          `${digits(model.parameters / 1e9, 4)} × 10⁹ × ${data.bytes[given.weights]} bytes${n > 1 ? ` / ${n}` : ""}`],
        ["cache", gigabytes(token.kv_bytes_per_chip), `${given.batch} × ${digits(token.kept, 6)} tokens × ${digits(model.kvElements * data.bytes[given.kv], 6)} bytes` +
          (token.share < 1 ? ` × ${digits(token.share)}` : "")],
        ["free", free >= 0 ? gigabytes(free) : `does not fit: ${gigabytes(-free)} too much`,
          `${gigabytes(chip.hbm_bytes)} − ${gigabytes(used)}`],
      ]],
      ["A token of each sequence", [
        ["compute", seconds(token.compute_s), `${digits(token.busiest / 1e9)} GFLOP${n > 1 ? " on the busiest chip" : ""} / ${peak}`],
        ["read weights", seconds(token.weights_s), over(gigabytes(token.read), bandwidth)],
        ["read cache", seconds(token.kv_s), `${gigabytes(token.kv_bytes_per_chip)} / ${bandwidth}`],
        ["communication", seconds(token.communication_s),
          n > 1 ? `${digits(token.sent / 1e6)} MB / ${digits(chip.link_bandwidth / 1e9)} GB/s` : "one chip sends nothing"],
        ["at best", seconds(token.roofline_s), "the larger of compute and all reading"],
        ["all in turn", seconds(token.serial_s), "the sum of the four"],
        ["tokens a second", digits(speed), `${given.batch} / ${seconds(token.serial_s)}`],
        ["chip-seconds for 10⁶ tokens", digits((n * 1e6) / speed), `${n} × 10⁶ / ${digits(speed)}`],
      ]],
      ["The prompt", [
        ["all in turn", seconds(prompt.serial_s), over(`${digits(prompt.flops / 1e12)} TFLOP`, peak) + ", reading, sending"],
        ["tokens a second", digits((given.batch * given.context) / prompt.serial_s),
          `${given.batch} × ${given.context} / ${seconds(prompt.serial_s)}`],
      ]],
    ];
  }

  function build(place, data) {
    const controls = {}, notes = {};
    const form = element("form", { class: "cost-fields", autocomplete: "off" });
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const [name, title, source, start] of FIELDS) {
      const id = `cost-${name}`, note = element("span", { class: "cost-note", id: `${id}-note`, role: "alert" });
      let control;
      if (source === null) {
        control = element("input", { type: "number", min: 1, step: 1, value: start, inputmode: "numeric" });
      } else {
        const names = Array.isArray(data[source]) ? data[source] : Object.keys(data[source]);
        control = element("select", {}, ...names.map((one) => element("option", { value: one }, one)));
        control.value = start;
      }
      control.id = id;
      control.setAttribute("aria-describedby", note.id);
      control.addEventListener("input", show);
      controls[name] = control;
      notes[name] = note;
      form.append(element("div", {}, element("label", { for: id }, title), control, note));
    }
    const results = element("div", { class: "cost-results", "aria-live": "polite" });
    place.replaceChildren(form, results);

    function show() {
      const given = {};
      for (const [name, , source] of FIELDS) {
        const value = controls[name].value;
        given[name] = source === null ? (value.trim() === "" ? NaN : Number(value)) : value;
      }
      const wrong = mistakes(given, data.chips[given.chip]);
      for (const name of Object.keys(notes)) {
        notes[name].textContent = wrong[name] || "";
        controls[name].setAttribute("aria-invalid", name in wrong ? "true" : "false");
      }
      if (Object.keys(wrong).length) {
        results.replaceChildren(element("p", {}, "No result: a field above needs another number."));
        return;
      }
      results.replaceChildren(
        ...report(data, given).map(([title, rows]) =>
          element("table", {}, element("caption", {}, title), element("tbody", {}, ...rows.map((one) => row(...one)))),
        ),
      );
    }
    show();
  }

  const api = { step, mistakes, digits, seconds };
  if (typeof module !== "undefined") module.exports = api;
  if (typeof document === "undefined") return;
  window.tfguideCost = api;
  function start() {
    const place = document.getElementById("cost-calculator"), source = document.getElementById("cost-data");
    if (place && source) build(place, JSON.parse(source.textContent));
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
