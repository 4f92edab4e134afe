"use strict";
// Sorting and filtering. Without scripts the page shows all rows in the order of the report.

const collator = new Intl.Collator("en", { numeric: true });

function value(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
}

function sortBy(table, header, column) {
  const down = header.getAttribute("aria-sort") === "ascending"
    || (header.getAttribute("aria-sort") === null && header.classList.contains("number"));
  const body = table.tBodies[0];
  // Read each cell once; comparisons would read it thousands of times.
  const rows = Array.from(body.rows, (row) => [value(row, column), row]);
  const numeric = header.classList.contains("number");
  rows.sort(([left], [right]) => (numeric ? Number(left) - Number(right) : collator.compare(left, right)) * (down ? -1 : 1));
  body.append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(table, header, column));
  });
}

for (const tools of document.querySelectorAll(".tools")) {
  const rows = Array.from(document.getElementById(tools.dataset.table).tBodies[0].rows, (row) => ({
    row, text: row.textContent.toLowerCase(), state: row.dataset.state ?? "",
  }));
  const search = tools.querySelector("input");
  const state = tools.querySelector("select");
  const output = tools.querySelector("output");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of rows) {
      const fits = (!state || !state.value || entry.state === state.value)
        && words.every((word) => entry.text.includes(word));
      entry.row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    output.textContent = `${shown} of ${rows.length} shown`;
  };
  search.addEventListener("input", filter);
  state?.addEventListener("change", filter);
  tools.hidden = false;
  filter();
}
