// Sorts a table of class "sortable" by the column whose heading is clicked; a cell may hold its key in <data value>.
document.addEventListener("click", event => {
  const button = event.composedPath().find(each => each.matches?.("table.sortable th button"));
  if (!button) return;
  const head = button.closest("th"), body = head.closest("table").tBodies[0];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const keyOf = row => row.cells[head.cellIndex].querySelector("data")?.value ?? row.cells[head.cellIndex].textContent;
  const order = new Intl.Collator("en", {numeric: true});
  const compare = (left, right) => {
    const [a, b] = [left, right].map(keyOf), [x, y] = [a, b].map(Number.parseFloat);
    if ((a === "-") !== (b === "-")) return a === "-" ? 1 : -1; // nothing comes last, whichever way
    return sign * (Number.isNaN(x) || Number.isNaN(y) || x === y ? order.compare(a, b) : x - y);
  };
  for (const each of head.parentElement.cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  body.append(...[...body.rows].sort(compare));
});
