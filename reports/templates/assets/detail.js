"use strict";
/* One sample in full: what was asked, each chosen method's answer beside the others, verdicts with the judge's own
   words, and other analyses of the same answer. */

const Detail = (() => {
  const { make, fill, block } = Safe;
  const STYLES = { guided_analysis: "guided analysis", unguided_analysis: "unguided analysis" };
  let drawing = 0;

  /* A label or another short text that somebody else wrote. */
  const strong = (value, tone) => fill(make("strong", { class: tone }), String(value));

  function fact(name, value, tone) {
    return make("div", { class: "fact" + (tone ? " " + tone : "") }, fill(make("dt"), name), fill(make("dd"), String(value)));
  }

  /* What one row is worth to each metric that is a mean over samples and asks for it. */
  function measured(at) {
    const told = (value, binary) => (value === null ? "lost" : binary ? (value === 1 ? "yes" : "no") : String(value));
    return Samples.index.metrics
      .filter((metric) => metric.mean && metric.task === at.task.name)
      .map((metric) => [metric, Samples.valueAt(at.task.metrics[metric.name], at.local)])
      .filter(([, value]) => value !== "n/a")
      .map(([metric, value]) => fact(metric.label, told(value, metric.binary)));
  }

  /* A judge's verdict with its reason and, folded, its whole reply. */
  function verdict(name, judge, at, words) {
    const label = Samples.valueAt(judge.label, at.local);
    const score = Samples.valueAt(judge.score, at.local);
    if (label === null && score === null) return null;
    const said = [label, score].filter((one) => one !== null).join(" · ");
    const [reason, raw] = words || [];
    return make("div", { class: "verdict" },
      make("p", {}, make("span", { class: "judge", text: name }), " ", strong(said),
        judge.seats > 1 ? make("span", { class: "soft", text: " (of " + judge.seats + " votes)" }) : null),
      reason ? make("div", { class: "veiled reason" }, block(reason)) : null,
      raw ? make("details", { class: "veiled" }, make("summary", { text: "The judge's whole reply" }), block(raw)) : null);
  }

  function seats(list) {
    if (!list) return null;
    const rows = list.map(([judge, seat, said, reason, raw]) => make("li", {},
      make("code", { text: judge }), " seat " + seat + ": ", strong(said),
      reason ? make("div", { class: "veiled reason" }, block(reason)) : null,
      raw ? make("details", { class: "veiled" }, make("summary", { text: "Whole reply" }), block(raw)) : null));
    return make("details", {}, make("summary", { text: "Every vote (" + list.length + ")" }), make("ul", { class: "votes" }, ...rows));
  }

  /* Log-likelihoods of the labels as probabilities among them. */
  function choice(logprobs) {
    if (!logprobs) return null;
    const entries = Object.entries(logprobs), top = Math.max(...entries.map(([, value]) => value));
    const sum = entries.reduce((all, [, value]) => all + Math.exp(value - top), 0);
    const shares = entries.map(([label, value]) => label + " " + ((100 * Math.exp(value - top)) / sum).toFixed(1) + "%");
    return make("p", { class: "soft", text: "Likelihood among the labels: " + shares.join(", ") });
  }

  /* One answer: whose, what came back, how it was judged. */
  function card(at, title, text, current) {
    const outcome = Samples.valueAt(at.task.outcome, at.local);
    const [answer, known] = text || ["", {}];
    const verdicts = Object.entries(at.task.judges).map(([name, judge]) => verdict(name, judge, at, (known.v || {})[name]));
    const target = Samples.valueAt(at.task.target, at.sample);
    const given = Samples.valueAt(at.task.answer, at.local);
    return make("section", { class: "card" + (current ? " current" : ""), "aria-label": title },
      make("h3", { text: title }),
      outcome === "ok" ? null : make("p", { class: "outcome", text: "Outcome: " + (outcome || "not planned") }),
      known.p ? make("p", { class: "outcome", text: "The prompt did not fit and lost its beginning." }) : null,
      known.d ? make("div", { class: "veiled detail" }, block(known.d)) : null,
      text ? make("div", { class: "veiled answer" }, block(answer)) : null,
      target === null ? null : make("p", {}, "Right label: ", strong(target), given === null ? "" : "; given: ",
        given === null ? null : strong(given + (given === target ? " ✓" : " ✗"), given === target ? "good" : "bad")),
      choice(known.l),
      ...verdicts.filter(Boolean),
      seats(known.s),
      make("dl", {}, ...measured(at)));
  }

  function asked(prompt) {
    if (!prompt) return null;
    const turns = prompt.m.map(([role, text]) => make("div", { class: "turn" }, make("h4", { text: role }), make("div", { class: "veiled" }, block(text))));
    return make("section", { class: "asked", "aria-label": "What was asked" }, make("h3", { text: "What was asked" }), ...turns);
  }

  function facts(prompt, at) {
    const rows = [fact("Style", Samples.valueAt(at.task.style, at.sample) || "the model's own")];
    if (prompt) {
      rows.push(fact("Key", prompt.k + "…"), fact("Source", prompt.s || "–"));
      for (const [name, value] of Object.entries(prompt.f)) rows.push(fact(name, typeof value === "string" ? value : JSON.stringify(value)));
    } else {
      for (const [name, column] of Object.entries(at.task.categories)) rows.push(fact(name, (Samples.valueAt(column, at.sample) || ["–"]).join(", ")));
    }
    return make("details", { class: "facts" }, make("summary", { text: "Facts about the sample" }), make("dl", { class: "veiled" }, ...rows));
  }

  /* Cards of one task's sample for each chosen subject, or one subject's cards of each analysis of the same answer. */
  async function cards(at, subjects) {
    const twins = at.task.style.v.length > 1 ? Samples.related("twin", at.task, at.sample) : [];
    const labelOnly = (task) => task.answer !== null && !Object.keys(task.judges).length;
    const others = twins.filter((one) => one.task !== at.task);
    const alike = (one) => labelOnly(one.task) === labelOnly(at.task);
    const places = [{ task: at.task, sample: at.sample }, ...others.filter(alike), ...others.filter((one) => !alike(one))];
    const groups = [];
    for (const subject of subjects) {
      const name = Samples.index.subjects[subject];
      for (const { task, sample } of places) {
        const other = Samples.place(Samples.rowAt(task, sample, subject, at.seed));
        const how = places.length > 1 ? (STYLES[Samples.valueAt(task.style, sample)] || task.name) + (labelOnly(task) ? ", likelier label" : "") : "";
        const title = name.label + " (" + name.name + ")" + (how ? ": " + how : "");
        groups.push(card(other, title, await Samples.answerOf(other.row), other.row === at.row));
      }
    }
    return make("div", { class: "cards", "data-columns": String(places.length > 1 ? places.length : subjects.length) }, ...groups);
  }

  /* Draws a row into an element; `beside`: names of subjects to show with it. Later calls win. */
  async function draw(element, row, beside) {
    const turn = ++drawing;
    const at = Samples.place(row);
    const others = beside.map(Samples.subjectNumber).filter((one) => one >= 0 && one !== at.subject);
    const prompt = await Samples.promptOf(at.task, at.sample);
    const content = await cards(at, [at.subject, ...others]);
    if (turn !== drawing) return;
    element.replaceChildren(...[asked(prompt), content, facts(prompt, at)].filter(Boolean));
    element.scrollTop = 0;
  }

  return { draw };
})();
