(() => {
  "use strict";
  const page = document.documentElement;
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
  const name = () => { toggle.textContent = dark() ? "Light theme" : "Dark theme"; };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    page.dataset.theme = dark() ? "light" : "dark";
    remembered(page.dataset.theme);
    name();
  });
  name();

  // Sorting: each sortable head becomes a button, so Tab and Enter reach it. Empty cells stay last.
  const key = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    if (cell.dataset.value !== undefined) return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    const text = (cell.querySelector(".who") || cell).textContent.trim();
    return text === "" || text === "–" ? null : text;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true });
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const table = head.closest("table");
      const body = table.tBodies[0];
      const column = Number(head.dataset.sort);
      const first = head.dataset.better === "higher" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const th of table.querySelectorAll("[aria-sort]")) th.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const turn = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row, place) => ({ row, place, key: key(row, column) }));
      rows.sort((a, b) => a.key === null || b.key === null ? (a.key === null) - (b.key === null) || a.place - b.place
        : turn * compare(a.key, b.key) || a.place - b.place);
      body.append(...rows.map((entry) => entry.row));
    });
  }

  // Copying a command.
  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  // A folded block is still printed.
  addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
})();
