// A table that is typed into. What the server says meanwhile neither redraws nor closes an open editor: rows wait until
// it is closed, marks are set beside the data. What was typed since rows were last asked for is typed into them again.
(function () {
  const POLL_MS = 50, PROBLEM = "What is wrong", known = new WeakMap();
  const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
  const settled = link => new Promise(resolve => {
    for (const name of ["load", "error"]) link.addEventListener(name, resolve);
  });

  class TypedTable {
    constructor(model) {
      this.model = model; // its tags are the marks: [row, column, reason]
      this.edits = new Map();
      this.marked = [];
    }

    // Return the content of a cell that tells what is wrong in its row, and mark the row's cells.
    format(cell) {
      const row = cell.getRow();
      if (this.table !== cell.getTable()) this.adopt(cell.getTable());
      this.markCells(row);
      return document.createTextNode(this.reasons(row));
    }

    adopt(table) {
      const draw = table.setData.bind(table);
      this.table = table;
      table.on("cellEdited", cell => {
        const row = cell.getRow().getIndex(), field = cell.getField();
        this.edits.set(`${row} ${field}`, {row, field, value: cell.getValue()});
      });
      table.setData = rows => new Promise(resolve => {
        const wait = () => {
          if (this.newest !== rows) resolve();
          else if (this.isEdited(rows)) setTimeout(wait, POLL_MS);
          else resolve(draw(rows).then(() => this.typeAgain()));
        };
        this.newest = rows;
        wait();
      });
      table.element.addEventListener("keydown", event => this.leave(event), true);
      // Nothing in a grid may take the focus but its cells: Tabulator's body does.
      table.element.querySelector(".tabulator-tableholder")?.removeAttribute("tabindex");
      this.waitForStyles(table.element);
    }

    // Let Tab lead out of the last cell, and Shift+Tab out of the first, where Tabulator would keep it.
    leave(event) {
      const open = this.table.element.querySelector(".tabulator-cell.tabulator-editing");
      if (event.key !== "Tab" || !open) return;
      const rows = this.table.getRows(), at = event.shiftKey ? 0 : -1;
      const cells = rows.at(at).getCells().map(cell => cell.getElement()).filter(each => each.hasAttribute("tabindex"));
      if (open !== cells.at(at)) return;
      event.stopPropagation();
      open.tabIndex = -1; // or Shift+Tab would lead to the cell, which opens its editor again
      setTimeout(() => { open.tabIndex = 0 });
    }

    // Take no input yet: Panel redraws a table once the last of its stylesheets has come.
    async waitForStyles(element) {
      element.inert = true;
      const links = [...element.getRootNode().querySelectorAll("link[rel=stylesheet]")];
      await Promise.all(links.filter(link => !link.sheet).map(settled));
      await frame().then(frame);
      element.inert = false;
    }

    // Close the editor of a row that is gone from the new rows.
    isEdited(rows) {
      const open = this.table.element.querySelector(".tabulator-cell.tabulator-editing");
      if (!open) return false;
      const row = this.table.getRow(open.closest(".tabulator-row"));
      if (rows.some(({_index}) => _index === row.getIndex())) return true;
      row.getCells().find(cell => cell.getElement() === open).cancelEdit();
      return false;
    }

    typeAgain() {
      for (const {row, field, value} of [...this.edits.values()])
        this.rows().get(row)?.getCell(field).setValue(value);
    }

    forget() {
      this.edits.clear();
    }

    // Change what is marked, without a word to Tabulator, which would close the editor of a row that it draws.
    mark() {
      const before = this.marked, rows = this.table ? this.rows() : new Map();
      this.marked = this.model.tags.map(([row]) => row);
      for (const index of new Set([...before, ...this.marked])) {
        const row = rows.get(index);
        if (!row) continue;
        row.getCell(PROBLEM).getElement().textContent = this.reasons(row);
        this.markCells(row);
      }
    }

    markCells(row) {
      const wrong = this.marksOf(row).map(([, column]) => column);
      for (const cell of row.getCells()) cell.getElement().classList.toggle("wrong", wrong.includes(cell.getField()));
    }

    reasons(row) {
      return this.marksOf(row).map(([, column, reason]) => `${column}: ${reason}`).join("; ");
    }

    marksOf(row) {
      return this.model.tags.filter(([index]) => index === row.getIndex());
    }

    rows() {
      return new Map(this.table.getRows().map(row => [row.getIndex(), row]));
    }
  }

  const modelOf = table => {
    const {host} = table.element.getRootNode();
    return [...Bokeh.index.query(view => view.el === host)][0].model;
  };
  const of = model => known.get(model) ?? known.set(model, new TypedTable(model)).get(model);

  window.typedTable = {
    format: cell => of(modelOf(cell.getTable())).format(cell),
    mark: model => of(model).mark(),
    forget: model => of(model).forget(),
  };
})();
