"use strict";
// Sorting and filtering; without it the page has all rows, in the order of the report.

const collator = new Intl.Collator("en", { numeric: true });

function value(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
}

function sortBy(table, header, column) {
  const down = header.getAttribute("aria-sort") === "ascending"
    || (header.getAttribute("aria-sort") === null && header.classList.contains("number"));
  const body = table.tBodies[0];
  // Read once: a comparison that reads cells would do so thousands of times.
  const rows = Array.from(body.rows, (row) => [value(row, column), row]);
  const numeric = header.classList.contains("number");
  rows.sort(([one], [two]) => (numeric ? Number(one) - Number(two) : collator.compare(one, two)) * (down ? -1 : 1));
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
  const said = tools.querySelector("output");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of rows) {
      const fits = (!state || !state.value || one.state === state.value)
        && words.every((word) => one.text.includes(word));
      one.row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    said.textContent = `${shown} of ${rows.length} shown`;
  };
  search.addEventListener("input", filter);
  state?.addEventListener("change", filter);
  tools.hidden = false;
  filter();
}
