"use strict";
/* The samples of a run: its index, filters over it, and texts that are loaded in parts.

   Rows are numbered through all tasks; within a task they go by sample, then subject, then seed. A column is
   {v: distinct values, codes: one per row}; code 0 is "none". Nothing here touches the page but the script tags that
   load parts: pages from file:// may not fetch, so each data file is a script that calls `receive`. */

const Samples = (() => {
  const LOADED_PARTS = 60; // kept in memory; a search streams through many more
  const nonce = document.currentScript.nonce;
  const waiting = new Map();
  const kept = new Map();
  let index = null;

  /* ---- parts ---- */

  function load(kind, number) {
    const name = kind + "-" + number;
    if (kept.has(name)) {
      const part = kept.get(name);
      kept.delete(name);
      kept.set(name, part); // the last used stands last
      return part;
    }
    const part = new Promise((resolve, reject) => {
      waiting.set(name, resolve);
      const script = document.createElement("script");
      script.nonce = nonce;
      script.charset = "utf-8";
      script.src = "data/" + (kind === "index" ? "index" : name) + ".js";
      script.onload = () => script.remove();
      script.onerror = () => {
        script.remove();
        kept.delete(name);
        reject(new Error("data/" + name + ".js cannot be read; make the report again"));
      };
      document.head.append(script);
    });
    kept.set(name, part);
    if (kept.size > LOADED_PARTS) kept.delete(kept.keys().next().value);
    return part;
  }

  function receive(kind, number, content) {
    const name = kind + "-" + number;
    const resolve = waiting.get(name);
    waiting.delete(name);
    if (resolve) resolve(content);
  }

  /* Number of the part that holds a row: the last one that begins at or before it. */
  function partOf(starts, row) {
    let low = 0, high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= row) low = middle; else high = middle - 1;
    }
    return low;
  }

  async function textOf(kind, row) {
    const starts = index.parts[kind];
    if (!starts || !starts.length) return null;
    const number = partOf(starts, row);
    return (await load(kind, number))[row - starts[number]];
  }

  /* ---- index ---- */

  const ARRAYS = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };

  function codesOf(column) {
    if (!column.codes) {
      const packed = atob(column.d);
      const bytes = new Uint8Array(packed.length);
      for (let i = 0; i < bytes.length; i++) bytes[i] = packed.charCodeAt(i);
      column.codes = new ARRAYS[column.b](bytes.buffer);
      delete column.d;
    }
    return column.codes;
  }

  const valueAt = (column, i) => (column ? column.v[codesOf(column)[i]] : null);

  async function open() {
    index = await load("index", 0);
    let row = 0, sample = 0;
    for (const task of index.tasks) {
      task.first = row;
      task.firstSample = sample;
      for (const [name, column] of Object.entries(task.metrics)) {
        if (typeof column === "string") task.metrics[name] = task.metrics[column]; // equal columns stand there once
      }
      task.width = index.subjects.length * index.seeds.length;
      row += task.samples * task.width;
      sample += task.samples;
    }
    index.rows = row;
    return index;
  }

  const named = (list, name) => list.find((one) => one.name === name) || null;
  const metricOf = (name) => named(index.metrics, index.aliases[name] || name);
  const subjectNumber = (name) => index.subjects.findIndex((one) => one.name === name);

  /* What a row is: its task, number of the sample in it, subject and seed. */
  function place(row) {
    const task = index.tasks.findLast((one) => one.first <= row);
    const local = row - task.first;
    const within = local % task.width;
    return {
      row, task, local,
      sample: Math.floor(local / task.width),
      subject: Math.floor(within / index.seeds.length),
      seed: within % index.seeds.length,
    };
  }

  const rowAt = (task, sample, subject, seed) =>
    task.first + sample * task.width + subject * index.seeds.length + seed;

  /* Samples of any task with the same code in a column of theirs, such as "twin" (the same turns, asked otherwise). */
  function related(column, task, sample) {
    const wanted = valueAt(task[column], sample);
    const found = [];
    for (const other of index.tasks) {
      const code = other[column].v.indexOf(wanted);
      if (code < 0) continue;
      const codes = codesOf(other[column]);
      for (let i = 0; i < codes.length; i++) if (codes[i] === code) found.push({ task: other, sample: i });
    }
    return found;
  }

  /* ---- filters ---- */

  /* A test of a row or sample by a column: which codes pass. */
  const test = (column, passes) => ({ codes: codesOf(column), passes: Uint8Array.from(column.v, (v) => (passes(v) ? 1 : 0)) });
  const NONE = null; // nothing of this task can pass
  const NOT_ASKED = "n/a"; // the value of a sample that a metric does not ask for

  function rowTests(task, query, metric) {
    const tests = [test(task.outcome, (v) => v !== null && (!query.outcome || v === query.outcome))];
    if (metric) {
      const low = query.low === "" ? -Infinity : Number(query.low);
      const high = query.high === "" ? Infinity : Number(query.high);
      const bounded = query.low !== "" || query.high !== "" || query.flip;
      const scored = (v) => typeof v === "number" && v >= low && v <= high;
      const planned = (v) => v !== NOT_ASKED;
      const passes = query.counted === "lost" ? (v) => v === null : query.counted === "scored" || bounded ? scored : planned;
      tests.push(test(task.metrics[metric.name], passes));
    }
    if (query.verdict) {
      const cut = query.verdict.indexOf(":");
      const judge = task.judges[query.verdict.slice(0, cut)];
      if (!judge) return NONE;
      tests.push(test(judge.label, (v) => v === query.verdict.slice(cut + 1)));
    }
    if (query.answer) {
      if (!task.answer) return NONE;
      tests.push(test(task.answer, (v) => v === query.answer));
    }
    return tests;
  }

  function sampleTests(task, query) {
    const tests = [];
    if (query.category) {
      const cut = query.category.indexOf("=");
      const column = task.categories[query.category.slice(0, cut)];
      if (!column) return NONE;
      tests.push(test(column, (v) => v !== null && v.includes(query.category.slice(cut + 1))));
    }
    if (query.target) tests.push(test(task.target, (v) => v === query.target));
    if (query.prompt) tests.push(test(task.prompt, (v) => v === Number(query.prompt)));
    return tests;
  }

  /* Whether a row's value differs from the baseline's on the same sample and seed, and in the wanted direction. */
  function flipTest(task, query, metric) {
    const baseline = subjectNumber(query.flip);
    const column = task.metrics[metric.name];
    const codes = codesOf(column), values = column.v, nSeeds = index.seeds.length;
    const sign = metric.higher === false ? -1 : 1;
    return (local, subject, seed) => {
      const other = codes[local - (subject - baseline) * nSeeds];
      if (subject === baseline || codes[local] === other || typeof values[other] !== "number") return false;
      const change = sign * (values[codes[local]] - values[other]);
      return query.change === "better" ? change > 0 : query.change === "worse" ? change < 0 : true;
    };
  }

  const passesAll = (tests, i) => {
    for (const { codes, passes } of tests) if (!passes[codes[i]]) return false;
    return true;
  };

  function numbers(list, wanted, key) {
    const all = [...list.keys()];
    return wanted === "" ? all : all.filter((i) => String(key(list[i])) === wanted);
  }

  /* Rows of one task that pass, appended to `rows`; gives their number. */
  function selectTask(task, query, metric, rows, n) {
    const ofRow = rowTests(task, query, metric), ofSample = sampleTests(task, query);
    if (ofRow === NONE || ofSample === NONE) return n;
    const subjects = numbers(index.subjects, query.subject, (one) => one.name);
    const seeds = numbers(index.seeds, query.seed, (one) => one);
    const flips = metric && query.flip && subjectNumber(query.flip) >= 0 ? flipTest(task, query, metric) : null;
    for (let sample = 0; sample < task.samples; sample++) {
      if (!passesAll(ofSample, sample)) continue;
      for (const subject of subjects) {
        const base = sample * task.width + subject * index.seeds.length;
        for (const seed of seeds) {
          if (passesAll(ofRow, base + seed) && (!flips || flips(base + seed, subject, seed))) {
            rows[n++] = task.first + base + seed;
          }
        }
      }
    }
    return n;
  }

  function select(query) {
    const metric = metricOf(query.metric);
    const wanted = metric ? metric.task : query.task;
    const rows = new Uint32Array(index.rows);
    let n = 0;
    for (const task of index.tasks) if (!wanted || task.name === wanted) n = selectTask(task, query, metric, rows, n);
    return metric ? sorted(rows.subarray(0, n), query, named(index.tasks, wanted), metric) : rows.subarray(0, n);
  }

  /* By the metric's value where asked for ("low" or "high" first), else in the order of the rows. */
  function sorted(rows, query, task, metric) {
    if (!query.sort) return rows;
    const column = task.metrics[metric.name], codes = codesOf(column);
    const sign = query.sort === "low" ? 1 : -1;
    const worth = column.v.map((v) => (typeof v === "number" ? sign * v : Infinity));
    return rows.slice().sort((a, b) => worth[codes[a - task.first]] - worth[codes[b - task.first]] || a - b);
  }

  /* ---- search ---- */

  const plain = (text) => text.normalize("NFKC").toLowerCase();

  /* Goes through the texts of `rows` part by part; `found(rows so far, share done)` after each; stops when it says false. */
  async function search(rows, words, found) {
    const wanted = plain(words);
    const starts = index.parts.answers || [];
    const byPart = new Map();
    for (const row of rows) {
      const part = partOf(starts, row);
      if (!byPart.has(part)) byPart.set(part, []);
      byPart.get(part).push(row);
    }
    const hits = [], prompts = new Map();
    let done = 0;
    const parts = [...byPart.keys()].sort((a, b) => a - b);
    for (const [i, part] of parts.entries()) {
      for (const next of parts.slice(i + 1, i + 4)) load("answers", next).catch(() => null); // read ahead
      const content = await load("answers", part);
      for (const row of byPart.get(part)) {
        const { task, sample } = place(row);
        const number = task.firstSample + sample;
        if (!prompts.has(number)) prompts.set(number, await says(wanted, "prompts", number));
        const one = content[row - starts[part]];
        if (prompts.get(number) || (one && answerSays(wanted, one))) hits.push(row);
      }
      done += 1;
      if (!found(hits, done / byPart.size)) return;
    }
    if (!byPart.size) found(hits, 1);
  }

  async function says(wanted, kind, number) {
    const one = await textOf(kind, number);
    return one !== null && one.m.some(([, text]) => plain(text).includes(wanted));
  }

  const answerSays = (wanted, [text, known]) =>
    plain(text).includes(wanted) || Object.values(known.v || {}).some((words) => words.some((w) => w && plain(w).includes(wanted)));

  return {
    open, receive, place, rowAt, related, select, search, metricOf, valueAt, subjectNumber,
    promptOf: (task, sample) => textOf("prompts", task.firstSample + sample),
    answerOf: (row) => textOf("answers", row),
    get index() { return index; },
  };
})();

const receive = Samples.receive; // what data files call
