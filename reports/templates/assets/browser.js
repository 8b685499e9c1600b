"use strict";
/* The page: filters, the virtual list, the chosen sample, the keyboard; all of its state stands in the address. */

(() => {
  const { make, line } = Safe;
  const EMPTY = {
    task: "", subject: "", seed: "", metric: "", counted: "", low: "", high: "", verdict: "", outcome: "", category: "",
    target: "", answer: "", prompt: "", flip: "", change: "", sort: "", q: "", with: "", item: "",
  };
  const height = () => (Samples.index.redacted ? 34 : 62); // of a row of the list, in pixels (as in browser.css)
  const MOST = 250000; // rows that fit into the tallest element that browsers draw
  const $ = (id) => document.getElementById(id);
  const fields = () => [...$("filters").querySelectorAll("[name]")];
  const number = (n) => n.toLocaleString("en");

  let state = { ...EMPTY };
  let rows = new Uint32Array(0); // what the list shows
  let searching = 0;
  let revealAll = false;
  let kept = false; // the chosen sample stays though the filters leave it out: the address asked for it
  const revealed = new Set(); // "task:sample" of what was asked for

  /* ---- the address ---- */

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    state = { ...EMPTY };
    for (const name of Object.keys(EMPTY)) if (given.has(name)) state[name] = given.get(name);
    kept = state.item !== "";
  }

  function writeAddress(replace) {
    const said = Object.entries(state).filter(([, value]) => value !== "");
    const hash = "#" + new URLSearchParams(said).toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
    if (hash !== location.hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
  }

  /* An item in the address: task, number of the sample in it (from 1), subject, seed. */
  function itemOf(row) {
    const at = Samples.place(row);
    const { subjects, seeds } = Samples.index;
    return [at.task.name, at.sample + 1, subjects[at.subject].name, seeds[at.seed]].join(":");
  }

  function rowOf(item) {
    const [name, sample, subject, seed] = item.split(":");
    const task = Samples.index.tasks.find((one) => one.name === name);
    const s = Samples.subjectNumber(subject), k = Samples.index.seeds.indexOf(Number(seed));
    if (!task || !(Number(sample) >= 1 && Number(sample) <= task.samples) || s < 0 || k < 0) return null;
    return Samples.rowAt(task, Number(sample) - 1, s, k);
  }

  /* ---- filters ---- */

  function options(select, entries, any) {
    const list = entries.map(([value, text]) => make("option", { value, text }));
    select.replaceChildren(make("option", { value: "", text: any }), ...list);
  }

  const distinct = (tasks, read) => [...new Set(tasks.flatMap(read))].filter((one) => one !== null);

  /* What can be chosen follows the task; a choice that is not there any more is kept and shows as such. */
  function fillFilters() {
    const { index } = Samples;
    const metric = Samples.metricOf(state.metric);
    if (metric) [state.metric, state.task] = [metric.name, metric.task];
    const tasks = index.tasks.filter((task) => !state.task || task.name === state.task);
    const names = index.subjects.map((one) => [one.name, one.label === one.name ? one.name : one.label + " (" + one.name + ")"]);
    options($("task"), index.tasks.map((task) => [task.name, task.name + " (" + number(task.samples) + ")"]), "all tasks");
    options($("subject"), names, "all methods");
    options($("seed"), index.seeds.map((seed) => [String(seed), String(seed)]), "all seeds");
    options($("metric"), index.metrics.filter((one) => !state.task || one.task === state.task).map((one) => [one.name, one.label]), "none");
    options($("verdict"), distinct(tasks, (task) => Object.entries(task.judges).flatMap(([name, judge]) => judge.label.v.filter((v) => v !== null).map((v) => name + ":" + v))).map((one) => [one, one.replace(":", ": ")]), "any verdict");
    options($("outcome"), distinct(tasks, (task) => task.outcome.v).map((one) => [one, one]), "any outcome");
    options($("category"), distinct(tasks, (task) => Object.entries(task.categories).flatMap(([name, column]) => [...new Set(column.v.flat())].filter((v) => v !== null).sort().map((v) => name + "=" + v))).map((one) => [one, one.replace("=", ": ")]), "any category");
    options($("target"), distinct(tasks, (task) => task.target.v).map((one) => [one, one]), "any");
    options($("answer"), distinct(tasks, (task) => (task.answer ? task.answer.v : [])).map((one) => [one, one]), "any");
    options($("flip"), names, "no comparison");
    for (const field of fields()) {
      if (field.tagName === "SELECT" && state[field.name] && ![...field.options].some((one) => one.value === state[field.name])) {
        field.append(make("option", { value: state[field.name], text: state[field.name] + " (none here)" }));
      }
      field.value = state[field.name];
    }
    for (const one of document.querySelectorAll("[data-needs=metric]")) one.disabled = !metric;
    for (const one of document.querySelectorAll("[data-needs=flip]")) one.disabled = !metric || !state.flip;
    for (const name of ["target", "answer"]) $(name).closest("label").hidden = $(name).options.length < 2;
    $("one-prompt").hidden = state.prompt === "";
  }

  function changed(event) {
    const { name, value } = event.target;
    if (!(name in EMPTY)) return;
    state[name] = value;
    kept = false;
    const task = Samples.index.tasks.find((one) => one.name === state.task);
    if (name === "task" && task && !(state.metric in task.metrics)) state.metric = "";
    if (name === "metric") state.counted = value ? "scored" : "";
    if (!state.metric) Object.assign(state, { counted: "", low: "", high: "", flip: "", change: "", sort: "" });
    update(event.type === "input");
  }

  /* Applies the state: filters, then search, then the list and the chosen sample. */
  function update(replace) {
    writeAddress(replace);
    fillFilters();
    const turn = ++searching;
    const started = performance.now();
    const found = Samples.select(state);
    $("status").dataset.milliseconds = String(performance.now() - started);
    $("progress").hidden = true;
    if (state.q.trim() === "" || Samples.index.redacted) return showRows(found, true);
    showRows(new Uint32Array(0), false);
    $("progress").hidden = false;
    Samples.search(found, state.q.trim(), (hits, share) => {
      if (turn !== searching) return false;
      $("progress").value = share;
      $("progress").hidden = share >= 1;
      showRows(hits, share >= 1);
      return true;
    }).catch(complain);
  }

  function showRows(found, complete) {
    rows = found.length > MOST ? found.slice(0, MOST) : found;
    const cut = found.length > MOST ? "; the first " + number(MOST) + " are listed" : "";
    $("status").textContent = number(found.length) + " of " + number(Samples.index.rows) + " samples" + (complete ? "" : " so far …") + cut;
    $("status").dataset.count = String(found.length);
    $("status").dataset.complete = String(complete);
    $("room").style.height = rows.length * height() + "px";
    if (complete && rows.length && position() < 0 && !kept) return choose(0, false);
    drawList();
    if (complete) drawDetail();
  }

  /* ---- the list ---- */

  const position = () => (state.item ? rows.indexOf(rowOf(state.item)) : -1);

  function drawList() {
    const list = $("list");
    const first = Math.max(0, Math.floor(list.scrollTop / height()) - 5);
    const last = Math.min(rows.length, first + Math.ceil(list.clientHeight / height()) + 10);
    const chosen = position();
    const entries = [];
    for (let i = first; i < last; i++) entries.push(entry(i, i === chosen));
    $("room").replaceChildren(...entries);
    if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", "entry-" + chosen);
    else list.removeAttribute("aria-activedescendant");
  }

  function entry(i, chosen) {
    const at = Samples.place(rows[i]);
    const { subjects, seeds } = Samples.index;
    const words = [make("span", { class: "prompt" }), make("span", { class: "reply" })];
    const element = make("div", {
      id: "entry-" + i, role: "option", class: "entry" + (hidden(at) ? " veiled veil" : ""), "aria-selected": String(chosen),
      "aria-setsize": String(rows.length), "aria-posinset": String(i + 1), onclick: () => choose(i, false),
    }, make("div", { class: "head" }, make("span", { class: "name", text: subjects[at.subject].label }),
      make("span", { class: "soft", text: at.task.name + " " + (at.sample + 1) + " · seed " + seeds[at.seed] }), ...badges(at)), ...words);
    element.style.top = i * height() + "px";
    snippets(at, words);
    return element;
  }

  function badges(at) {
    const metric = Samples.metricOf(state.metric);
    if (metric) {
      const value = Samples.valueAt(at.task.metrics[metric.name], at.local);
      if (typeof value !== "number") return [make("span", { class: "badge", text: value === null ? "lost" : "not asked" })];
      if (!metric.binary) return [make("span", { class: "badge", text: String(value) })];
      const good = metric.higher === null ? null : (value === 1) === metric.higher;
      return [make("span", { class: "badge " + (good === null ? "" : good ? "good" : "bad"), text: value === 1 ? "✓ yes" : "✗ no" })];
    }
    const labels = Object.values(at.task.judges).map((judge) => Samples.valueAt(judge.label, at.local) ?? Samples.valueAt(judge.score, at.local));
    const outcome = Samples.valueAt(at.task.outcome, at.local);
    const given = Samples.valueAt(at.task.answer, at.local);
    return [outcome === "ok" ? null : outcome, labels[0] ?? given].filter((one) => one !== null).map((one) => make("span", { class: "badge", text: String(one) }));
  }

  async function snippets(at, [prompt, reply]) {
    if (Samples.index.redacted) return;
    const asked = await Samples.promptOf(at.task, at.sample);
    prompt.append(line(asked.m.map(([, text]) => text).join(" — ")));
    const said = await Samples.answerOf(at.row);
    if (said) reply.append(line(said[0]));
  }

  function scrollTo(i) {
    const list = $("list");
    if (i * height() < list.scrollTop) list.scrollTop = i * height();
    else if ((i + 1) * height() > list.scrollTop + list.clientHeight) list.scrollTop = (i + 1) * height() - list.clientHeight;
  }

  function choose(i, open) {
    if (i < 0 || i >= rows.length) return;
    state.item = itemOf(rows[i]);
    writeAddress(true);
    scrollTo(i);
    drawList();
    drawDetail();
    if (open) $("detail").focus();
  }

  /* ---- the chosen sample ---- */

  const nameOf = (at) => at.task.name + ":" + at.sample;
  const hidden = (at) => at.task.sensitive && !revealAll && !revealed.has(nameOf(at)) && !Samples.index.redacted;

  async function drawDetail() {
    const row = state.item ? rowOf(state.item) : null;
    $("bar").hidden = row === null;
    if (row === null) {
      $("content").replaceChildren(make("p", { class: "soft", text: state.item ? "This run has no sample " + state.item + "." : "No sample is chosen." }));
      return;
    }
    const at = Samples.place(row);
    const { subjects, seeds } = Samples.index;
    $("title").textContent = subjects[at.subject].label + " · " + at.task.name + " " + (at.sample + 1) + " · seed " + seeds[at.seed];
    const here = position();
    $("where").textContent = here < 0 ? "not among the filtered samples" : number(here + 1) + " of " + number(rows.length);
    const beside = state.with === "" ? [] : state.with.split(",");
    for (const box of $("beside").querySelectorAll("input")) {
      box.checked = beside.includes(box.value) || box.value === subjects[at.subject].name;
      box.disabled = box.value === subjects[at.subject].name;
    }
    try {
      await Detail.draw($("content"), row, beside);
    } catch (error) {
      return complain(error);
    }
    veil();
  }

  /* Blurs the texts of the chosen sample, or shows them; blurred ones can be neither read out nor selected. */
  function veil() {
    const row = state.item ? rowOf(state.item) : null;
    if (row === null) return;
    const at = Samples.place(row), blurred = hidden(at);
    for (const element of $("content").querySelectorAll(".veiled")) {
      element.classList.toggle("veil", blurred);
      element.inert = blurred;
    }
    $("reveal").hidden = Samples.index.redacted || !at.task.sensitive || revealAll;
    $("reveal").setAttribute("aria-expanded", String(!blurred));
    $("reveal").textContent = blurred ? "Show text" : "Blur text";
    $("reveal-all").setAttribute("aria-pressed", String(revealAll));
    $("reveal-all").textContent = revealAll ? "Blur all again" : "Reveal all";
  }

  function reveal() {
    const row = state.item ? rowOf(state.item) : null;
    if (row === null) return;
    const name = nameOf(Samples.place(row));
    if (!revealed.delete(name)) revealed.add(name);
    veil();
    drawList();
  }

  function toggleAll() {
    revealAll = !revealAll;
    revealed.clear();
    veil();
    drawList();
  }

  function compare() {
    const chosen = [...$("beside").querySelectorAll("input:checked:not(:disabled)")].map((box) => box.value);
    state.with = chosen.join(",");
    writeAddress(true);
    drawDetail();
  }

  /* ---- keyboard ---- */

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") {
      if ($("help").open) return; // the dialog closes itself
      $("list").focus();
    } else if (typing) {
      return;
    } else if (!act(event.key, event.target)) {
      return;
    }
    event.preventDefault();
  }

  /* Does what a key stands for; false where it stands for nothing. */
  function act(key, target) {
    const inList = target === $("list") || target === document.body;
    const page = Math.max(1, Math.floor($("list").clientHeight / height()) - 1);
    const steps = { j: 1, k: -1, ...(inList ? { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page } : {}) };
    if (key in steps) choose(Math.min(Math.max(position() + steps[key], 0), rows.length - 1), false);
    else if (inList && key === "Home") choose(0, false);
    else if (inList && key === "End") choose(rows.length - 1, false);
    else if (inList && key === "Enter") choose(Math.max(position(), 0), true);
    else if (key === "/") $("q").focus();
    else if (key === "r") reveal();
    else if (key === "R") toggleAll();
    else if (key === "?") $("help").showModal();
    else return false;
    return true;
  }

  /* ---- start ---- */

  function complain(error) {
    $("problem").textContent = error.message;
    $("problem").hidden = false;
  }

  function connect() {
    const beside = Samples.index.subjects.map((one) => make("label", {}, make("input", { type: "checkbox", value: one.name, onchange: compare }), " " + one.label, one.label === one.name ? null : make("span", { class: "soft", text: " " + one.name })));
    $("beside").append(...beside);
    let typed = 0;
    $("filters").addEventListener("change", (event) => event.target.id === "q" || changed(event));
    $("q").addEventListener("input", (event) => {
      clearTimeout(typed);
      typed = setTimeout(() => changed(event), 200);
    });
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("clear").addEventListener("click", () => { state = { ...EMPTY, with: state.with }; update(false); });
    $("one-prompt").addEventListener("click", () => { state.prompt = ""; update(false); });
    $("same-prompt").addEventListener("click", () => {
      const at = Samples.place(rowOf(state.item));
      state = { ...EMPTY, with: state.with, item: state.item, prompt: String(Samples.valueAt(at.task.prompt, at.sample)) };
      update(false);
    });
    $("reveal").addEventListener("click", reveal);
    $("reveal-all").addEventListener("click", toggleAll);
    $("show-help").addEventListener("click", () => $("help").showModal());
    let waiting = false; // at most one drawing a frame
    $("list").addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; drawList(); });
    });
    addEventListener("resize", drawList);
    addEventListener("popstate", () => { readAddress(); update(true); });
    document.addEventListener("keydown", press);
  }

  Samples.open().then(() => {
    readAddress();
    connect();
    for (const one of document.querySelectorAll(".only-texts")) one.hidden = Samples.index.redacted;
    update(true);
    const chosen = position();
    if (chosen >= 0) scrollTo(chosen);
    document.body.dataset.ready = "true";
    $("list").focus();
  }).catch(complain);
})();
