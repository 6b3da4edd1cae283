// Sorts a table of class "sortable" by the column whose heading is clicked, also when the table is written anew; a cell
// may hold its key in <data value>.
const orders = new WeakMap(); // heading and sign, by the root of the table

function sort(table, [heading, sign]) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const head = heads.find(each => each.textContent === heading);
  if (!head) return;
  const keyOf = row => row.cells[head.cellIndex].querySelector("data")?.value ?? row.cells[head.cellIndex].textContent;
  const order = new Intl.Collator("en", {numeric: true});
  const compare = (left, right) => {
    const [a, b] = [left, right].map(keyOf), [x, y] = [a, b].map(Number.parseFloat);
    if ((a === "-") !== (b === "-")) return a === "-" ? 1 : -1; // nothing comes last, whichever way
    return sign * (Number.isNaN(x) || Number.isNaN(y) || x === y ? order.compare(a, b) : x - y);
  };
  for (const each of heads) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  body.append(...[...body.rows].sort(compare));
}

function sortAgain([{target}]) {
  const root = target.getRootNode(), table = root.querySelector("table.sortable");
  if (table && !table.querySelector("[aria-sort]")) sort(table, orders.get(root));
}

document.addEventListener("click", event => {
  const button = event.composedPath().find(each => each.matches?.("table.sortable th button"));
  if (!button) return;
  const head = button.closest("th"), root = head.getRootNode();
  if (!orders.has(root)) new MutationObserver(sortAgain).observe(root, {childList: true, subtree: true});
  orders.set(root, [head.textContent, head.getAttribute("aria-sort") === "ascending" ? -1 : 1]);
  sort(head.closest("table"), orders.get(root));
});
