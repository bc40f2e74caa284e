(() => {
  "use strict";
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const find = (id) => document.getElementById(id);
  const views = ["intro", "trial", "rest", "end"];
  const show = (name) => { for (const v of views) find(v).hidden = v !== name; };
  const problem = (words) => { find("problem").textContent = words; find("problem").hidden = !words; };
  const pair = facts.mode === "2afc";
  let trials = [], done = 0, total = facts.total, session = null, now = null, sending = false;

  // A key of its own for every answer: sent twice, it is kept once.
  const fresh = () => [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");

  // Where answers go: to the server, or into this browser until they are saved as a file.
  const post = async (what, body) => {
    const reply = await fetch(what, { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body) });
    if (!reply.ok) throw new Error((await reply.text()).trim());
    return reply.json();
  };
  const server = {
    begin: (rater) => post("begin", { rater }),
    answer: (body) => post("answer", { session, ...body }),
    text: async (name) => (await fetch(`media/${name}`)).text(),
    picture: (name) => `media/${name}`,
  };
  const book = { schema: "evalkit.answers/1", study: facts.study, rater: "", sheet: "", answers: [] };
  const place = (rater) => `evalkit-judge/${facts.study}/${rater}`;
  const file = {
    begin: async (rater) => {
      let before = null;
      try { before = JSON.parse(localStorage.getItem(place(rater))); } catch { /* storage is closed: no going on later */ }
      const names = Object.keys(facts.sheets);
      Object.assign(book, before || { rater, answers: [],
        sheet: names[crypto.getRandomValues(new Uint32Array(1))[0] % names.length] });
      const over = new Set(book.answers.map((a) => a.trial));
      offer();
      return { session: "", trials: facts.sheets[book.sheet].filter((t) => !over.has(t.id)), done: over.size, total };
    },
    answer: async (body) => {
      book.answers.push(body);
      try { localStorage.setItem(place(book.rater), JSON.stringify(book)); } catch { /* kept until the page is closed */ }
      offer();
      return { done: new Set(book.answers.map((a) => a.trial)).size, total };
    },
    text: async (name) => facts.texts[name],
    picture: (name) => `media/${name}.png`,
  };
  const offer = () => {
    if (!book.answers.length) return;
    const save = find("save");
    if (save.href.startsWith("blob:")) URL.revokeObjectURL(save.href);
    save.href = URL.createObjectURL(new Blob([JSON.stringify(book)], { type: "application/json" }));
    save.download = `answers-${book.rater.replace(/[^\p{L}\p{N}_-]+/gu, "_")}.json`;
  };
  const home = facts.static ? file : server;

  const progress = () => {
    find("count").textContent = `${done} of ${total} done`;
    find("progress").value = done;
    find("progress").hidden = false;
  };

  const media = async (name) => {
    const figure = document.createElement("figure");
    if (facts.modality === "text") {
      const quote = document.createElement("blockquote");
      quote.textContent = await home.text(name);
      figure.append(quote);
    } else {
      const image = new Image();
      image.alt = "The picture to judge";
      image.src = home.picture(name);
      await image.decode();
      figure.append(image);
    }
    return figure;
  };
  const made = (trial) => Promise.all(trial.media.map(media));
  let coming = null;

  const next = async () => {
    const trial = trials.shift();
    if (!trial) {
      progress();
      find("pause").hidden = true;
      show("end");
      if (facts.static) find("saving").hidden = false;
      return;
    }
    const figures = await (coming || made(trial));
    coming = trials.length ? made(trials[0]) : null;
    if (coming) coming.catch(() => { coming = null; });
    find("stage").replaceChildren(...figures);
    for (const b of document.querySelectorAll("[data-choice]")) b.setAttribute("aria-pressed", "false");
    find("sure").classList.remove("open");
    progress();
    show("trial");
    find("pause").hidden = false;
    now = { trial, choice: null, ms: null, looked: 0, since: performance.now(), key: fresh() };
    find("question").focus({ preventScroll: true });
    scrollTo(0, 0);
  };

  const looked = () => now.looked + (now.since === null ? 0 : performance.now() - now.since);
  const choose = (choice) => {
    if (!now || sending || now.since === null) return;
    if (now.ms === null) now.ms = looked();
    now.choice = choice;
    for (const b of document.querySelectorAll("[data-choice]")) b.setAttribute("aria-pressed", String(b.dataset.choice === choice));
    if (pair) [...find("stage").children].forEach((f, i) => f.classList.toggle("chosen", (i === 0) === (choice === "left")));
    find("sure").classList.add("open");
  };
  const settle = async (confidence) => {
    if (!now || !now.choice || sending || now.since === null) return;
    sending = true;
    try {
      const reply = await home.answer({ trial: now.trial.id, answer: now.choice, confidence, ms: Math.round(now.ms), key: now.key });
      problem("");
      done = reply.done;
      total = reply.total;
      now = null;
      await next();
    } catch (error) {
      problem(`${now ? "This answer could not be kept yet" : "The next one could not be shown"} (${error.message}). ` +
        "Is the command still running? Try again, or reload the page: what was kept stays.");
    } finally { sending = false; }
  };

  const pause = () => {
    if (!now || sending || now.since === null) return;
    now.looked = looked();
    now.since = null;
    find("pause").hidden = true;
    if (facts.static) find("saving").hidden = false;
    show("rest");
    find("resume").focus();
  };
  const resume = () => {
    if (!now || now.since !== null) return;
    now.since = performance.now();
    find("pause").hidden = false;
    if (facts.static) find("saving").hidden = true;
    show("trial");
  };

  find("begin").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return;
    sending = true;
    try {
      const rater = facts.rater || find("name").value.trim().replace(/\s+/g, " ");
      const begun = await home.begin(rater);
      ({ session, trials, done, total } = begun);
      problem("");
      await next();
    } catch (error) { problem(`It could not begin: ${error.message}`); } finally { sending = false; }
  });
  for (const b of document.querySelectorAll("[data-choice]")) b.addEventListener("click", () => choose(b.dataset.choice));
  for (const b of document.querySelectorAll("[data-sure]")) {
    b.addEventListener("click", () => settle(b.dataset.sure === "" ? null : Number(b.dataset.sure)));
  }
  find("pause").addEventListener("click", pause);
  find("resume").addEventListener("click", resume);
  // Looking away is a pause too.
  document.addEventListener("visibilitychange", () => { if (document.hidden) pause(); });

  const keys = pair ? { arrowleft: "left", arrowright: "right" }
    : { r: "real", arrowleft: "real", f: "fake", arrowright: "fake" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || find("trial").hidden) return;
    const key = event.key.toLowerCase();
    if (keys[key]) { event.preventDefault(); choose(keys[key]); }
    else if (/^[1-4]$/.test(key)) settle(Number(key));
    else if (key === "p") pause();
    // Enter on a button presses that button.
    else if (key === "enter" && event.target.tagName !== "BUTTON") settle(null);
  });
})();
