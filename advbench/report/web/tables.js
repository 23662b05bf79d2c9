// Tables: a click on a heading sorts, a button copies the table as tab-separated values.
(() => {
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();

  function sort(table, column, descending) {
    const rows = [...table.tBodies[0].rows];
    const texts = rows.map((row) => value(row, column));
    const numeric = texts.every((text) => text === "" || !Number.isNaN(Number(text)));
    const order = (a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x === "" || y === "") return (x === "") - (y === ""); // what is missing stays last
      const difference = numeric ? x - y : x.localeCompare(y, "en", { numeric: true });
      return descending ? -difference : difference;
    };
    table.tBodies[0].append(...rows.sort(order));
  }

  function sortable(table) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const descending = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((each) => each.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, column, descending);
      });
    });
  }

  function copyable(table) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy table";
    button.addEventListener("click", async () => {
      const head = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
      const rows = [...table.tBodies[0].rows].map((row) => [...row.cells].map((_, column) => value(row, column)));
      try {
        await navigator.clipboard.writeText([head, ...rows].map((cells) => cells.join("\t")).join("\n"));
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(table); // where a page on disk may not write: the reader's own copy does
        button.textContent = "Selected: copy it with the keyboard";
      }
    });
    table.closest(".table").prepend(button);
  }

  for (const table of document.querySelectorAll("table.data")) {
    sortable(table);
    copyable(table);
  }
})();
