(() => {
  "use strict";
  const page = document.documentElement;
  const all = (where, what) => [...where.querySelectorAll(what)];
  page.classList.add("js");

  // Theme: the system's until a reader chooses; storage may be closed for local files.
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("evalkit-theme", value);
      return localStorage.getItem("evalkit-theme");
    } catch { return null; }
  };
  const dark = () => page.dataset.theme ? page.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const before = remembered();
  if (before === "dark" || before === "light") page.dataset.theme = before;
  const toggle = document.querySelector("[data-toggle-theme]");
  if (toggle) {
    const name = () => { toggle.textContent = dark() ? "Light theme" : "Dark theme"; };
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      page.dataset.theme = dark() ? "light" : "dark";
      remembered(page.dataset.theme);
      name();
    });
    name();
  }

  // Sorting: each sortable head becomes a button, so Tab and Enter reach it. Empty cells stay last.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    const text = (cell.querySelector(".who") || cell).textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : collator.compare(String(a), String(b));
  for (const head of all(document, "th[data-sort]")) {
    const label = head.querySelector(".label") || head;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...label.childNodes);
    label.append(button);
    button.addEventListener("click", () => {
      const table = head.closest("table");
      const body = table.tBodies[0];
      const column = Number(head.dataset.sort);
      const first = head.dataset.better === "higher" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const th of all(table, "[aria-sort]")) th.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const turn = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row, place) => ({ row, place, key: key(row, column) }));
      rows.sort((a, b) => a.key === null || b.key === null ? (a.key === null) - (b.key === null) || a.place - b.place
        : turn * compare(a.key, b.key) || a.place - b.place);
      body.append(...rows.map((entry) => entry.row));
    });
  }

  // Filtering: rows by the words of their subject, columns by the question they answer.
  for (const tools of all(document, ".tools")) {
    const table = document.getElementById(tools.dataset.for);
    const [groups, heads] = table.tHead.rows;
    const rows = [...table.tBodies[0].rows];
    const said = tools.querySelector("output");
    const field = tools.querySelector("[data-filter]");
    tools.hidden = false;
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const name = row.cells[0].textContent.toLowerCase()
          + " " + (row.querySelector(".who [title]")?.title ?? "").toLowerCase();
        row.hidden = !words.every((word) => name.includes(word));
        shown += !row.hidden;
      }
      said.textContent = words.length ? `${shown} of ${rows.length} subjects` : "";
    });
    for (const box of all(tools, "[data-group]")) {
      box.addEventListener("change", () => {
        const group = Number(box.dataset.group) + 1;
        let start = 0;
        for (let k = 1; k < group; k += 1) start += groups.cells[k].colSpan;
        groups.cells[group].hidden = !box.checked;
        for (let k = start; k < start + groups.cells[group].colSpan; k += 1) {
          heads.cells[k].hidden = !box.checked;
          for (const row of rows) row.cells[k + 1].hidden = !box.checked;
        }
      });
    }
  }

  // Copying a command.
  for (const button of all(document, "[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  // A folded block is still printed. Of those that share a name only one may be open: while printing none has one.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all(document, "details").map((block) => [block, block.getAttribute("name"), block.open]);
    for (const [block] of folded) block.removeAttribute("name");
    for (const [block] of folded) block.open = true;
  });
  addEventListener("afterprint", () => {
    for (const [block, , open] of folded) block.open = open;
    for (const [block, name] of folded) if (name) block.setAttribute("name", name);
  });
})();
