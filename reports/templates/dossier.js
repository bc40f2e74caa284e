(() => {
  "use strict";
  const all = (where, what) => [...where.querySelectorAll(what)];
  const writing = (event) => /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey && !event.defaultPrevented;

  // A file's page: one key leads to the page before, after or above.
  const turns = new Map(all(document, "a[data-key]").map((link) => [link.dataset.key, link]));
  if (turns.size) {
    document.addEventListener("keydown", (event) => {
      if (!plain(event) || writing(event) || event.repeat) return;
      const link = turns.get(event.key.toLowerCase());
      if (link) { event.preventDefault(); link.click(); }
    });
  }

  const table = document.getElementById("work");
  if (!table) return;
  const body = table.tBodies[0];
  const sieve = document.getElementById("sieve");
  const keys = document.querySelector(".keys");
  const said = sieve.querySelector("output");
  const empty = document.querySelector(".empty");
  const field = sieve.querySelector('[data-sieve="words"]');
  const lists = Object.fromEntries(all(sieve, "select").map((list) => [list.dataset.sieve, list]));
  const rows = [...body.rows];
  const texts = new Map(rows.map((row) => [row, [1, 3, 9].map((k) => row.cells[k].textContent).join(" ").toLowerCase()
    + " " + (row.querySelector(".who [title]")?.title ?? "").toLowerCase()]));
  sieve.hidden = keys.hidden = false;

  // One row at a time takes the focus by Tab; the arrows move along those that are shown.
  const who = (row) => row.querySelector(".who");
  for (const row of rows) who(row).tabIndex = -1;
  let current = null;
  const settle = (row) => {
    if (current) who(current).tabIndex = -1;
    current = row;
    if (row) who(row).tabIndex = 0;
  };
  const shown = () => [...body.rows].filter((row) => !row.hidden);
  const go = (row) => {
    if (!row) return;
    settle(row);
    who(row).focus();
    row.scrollIntoView({ block: "nearest" });
  };
  body.addEventListener("focusin", (event) => settle(event.target.closest("tr")));

  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { verdict, evidence, state } = Object.fromEntries(Object.entries(lists).map(([k, list]) => [k, list.value]));
    let count = 0;
    for (const row of rows) {
      const kinds = row.dataset.k.split(" ").filter(Boolean);
      row.hidden = !((!verdict || row.dataset.v === verdict) && (!state || row.dataset.s === state)
        && (!evidence || (evidence === "none" ? !kinds.length : kinds.includes(evidence)))
        && words.every((word) => texts.get(row).includes(word)));
      count += !row.hidden;
    }
    const all_shown = count === rows.length;
    said.textContent = all_shown ? `${count.toLocaleString("en")} rows`
      : `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    empty.hidden = count > 0;
    if (!current || current.hidden) settle(shown()[0] ?? null);
  };
  const clear = () => {
    field.value = "";
    for (const list of Object.values(lists)) list.value = "";
    apply();
  };
  field.addEventListener("input", apply);
  for (const list of Object.values(lists)) list.addEventListener("change", apply);
  sieve.querySelector("[data-sieve-reset]").addEventListener("click", clear);
  // A browser that comes back to the page may have kept what was chosen.
  addEventListener("pageshow", apply);

  document.addEventListener("keydown", (event) => {
    if (!plain(event)) return;
    if (event.key === "/" && !writing(event)) {
      event.preventDefault();
      field.focus();
      field.select();
    } else if (event.key === "Escape" && sieve.contains(event.target)) {
      event.preventDefault();
      clear();
    } else if (event.key === "ArrowDown" && event.target === field) {
      event.preventDefault();
      go(shown()[0]);
    } else if (body.contains(event.target) && ["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) {
      event.preventDefault();
      const left = shown();
      const at = left.indexOf(event.target.closest("tr"));
      if (event.key === "ArrowUp" && at === 0) field.focus();
      else go(event.key === "Home" ? left[0] : event.key === "End" ? left.at(-1)
        : left[at + (event.key === "ArrowDown" ? 1 : -1)]);
    }
  });
  apply();
  // Back from a file's page: its row has the focus again, once the browser has scrolled to it and let go of the focus.
  addEventListener("pageshow", () => {
    const from = /^#f\d+$/.test(location.hash) && document.getElementById(location.hash.slice(1));
    if (from && !from.hidden) go(from);
  });
})();
