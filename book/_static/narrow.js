// A table that is wider than its column becomes a card for each row, each cell beside the head of its column. What a cell
// printed in columns is set smaller until its lines fit, as long as it can be read; else its lines break.
// Without this script such a table scrolls inside its box, and lines that are too long break.
(() => {
  // The heads of each column, from the top: a head that spans columns belongs to all of them.
  const heads = (table) => {
    const grid = [];
    [...table.tHead.rows].forEach((row, r) => {
      let c = 0;
      for (const cell of row.cells) {
        while (grid[r]?.[c] !== undefined) c++;
        for (let i = 0; i < cell.rowSpan; i++)
          for (let j = 0; j < cell.colSpan; j++) (grid[r + i] ??= [])[c + j] = cell;
        c += cell.colSpan;
      }
    });
    const columns = Math.max(...grid.map((row) => row.length));
    return [...Array(columns).keys()].map((c) => [...new Set(grid.map((row) => row[c]).filter(Boolean))]);
  };

  // Put the head and what the cell holds side by side in every cell but the first, which names the row.
  const label = (table) => {
    const columns = table.tHead ? heads(table) : [];
    for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
      let c = 0;
      for (const cell of row.cells) {
        const own = columns[c] || [];
        c += cell.colSpan;
        if (cell === row.cells[0] || !own.some((head) => head.textContent.trim()) || !cell.textContent.trim()) continue;
        const [head, body] = ["card-head", "card-body"].map((name) =>
          Object.assign(document.createElement("span"), { className: name }),
        );
        head.setAttribute("aria-hidden", "true");
        own.forEach((one, k) => {
          if (k) head.append(", ");
          head.append(...[...one.cloneNode(true).childNodes]);
        });
        body.append(...cell.childNodes);
        cell.append(head, body);
        cell.classList.toggle("long", body.textContent.length > 40);
      }
    }
    table.dataset.labelled = "";
  };

  const LEAST = 7; // pixels of the page; a telephone draws such letters with twenty of its own

  const shrink = (output) => {
    output.style.fontSize = "";
    output.style.whiteSpace = "pre";
    const style = getComputedStyle(output);
    const [size, left, right] = ["fontSize", "paddingLeft", "paddingRight"].map((name) => parseFloat(style[name]));
    const lines = output.textContent.split("\n");
    const longest = (some) => Math.max(0, ...some.map((line) => line.length));
    const share = longest(lines.filter((line) => /\S {2,}\S/.test(line))) / longest(lines); // columns; prose is wrapped
    const room = output.clientWidth - left - right, needed = (output.scrollWidth - left - right) * share;
    output.style.whiteSpace = "";
    const smaller = Math.floor(((10 * size * room) / needed)) / 10;
    if (output.clientWidth && needed > room && smaller >= LEAST) output.style.fontSize = `${smaller}px`;
  };

  const fit = () => {
    document.querySelectorAll("article .cell_output pre").forEach(shrink);
    for (const table of document.querySelectorAll("article table:not(.indextable)")) {
      table.classList.remove("cards");
      const box = table.parentElement;
      const wide = Math.max(table.scrollWidth, table.offsetWidth) > box.clientWidth + 1;
      if (!box.clientWidth || !wide) continue;
      if (table.dataset.labelled === undefined) label(table);
      table.classList.add("cards");
    }
  };

  const start = async () => {
    await window.MathJax?.startup?.promise; // heads and cells may hold formulas
    await document.fonts.ready;
    fit();
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth !== width) fit();
      width = innerWidth;
    });
    // A table behind a tab or in a folded box has no width before it is shown.
    document.addEventListener("toggle", fit, true);
    document.addEventListener("change", fit, true);
    document.addEventListener("click", () => requestAnimationFrame(fit), true);
    document.documentElement.dataset.fitted = "";
  };
  addEventListener("load", start);
})();
