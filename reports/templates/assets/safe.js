"use strict";
/* Untrusted text on the page: always as text nodes, never as markup; long texts collapsed, unseen characters shown. */

const Safe = (() => {
  const LONG = 4000;
  /* Zero-width and direction-changing characters; joiners stay, which some scripts need. */
  const UNSEEN = /[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;

  /* An element with attributes (`class`, `text`, `on…` by function, others as they are) and children. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") element.textContent = value;
      else if (typeof value === "function") element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  /* Text in which unseen characters are marked by their code. */
  function fill(element, text) {
    let from = 0;
    for (const match of text.matchAll(UNSEEN)) {
      const code = "U+" + match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
      element.append(text.slice(from, match.index), make("span", { class: "unseen", title: "invisible character", text: code }));
      from = match.index + 1;
    }
    element.append(text.slice(from));
    return element;
  }

  /* A whole text, in its own direction; a long one shows its beginning and a button for the rest. */
  function block(text) {
    const pre = make("pre", { dir: "auto", class: "words" });
    if (text === "") return make("p", { class: "soft", text: "(empty)" });
    if (text.length <= LONG) return fill(pre, text);
    const box = make("div", {}, fill(pre, text.slice(0, LONG) + " …"));
    const button = make("button", {
      type: "button", class: "whole", text: "Show all " + text.length.toLocaleString("en") + " characters",
      onclick: () => {
        pre.textContent = "";
        fill(pre, text);
        button.remove();
      },
    });
    box.append(button);
    return box;
  }

  /* The beginning of a text on one line. */
  const line = (text, length = 220) => make("bdi", { text: text.slice(0, length).replace(UNSEEN, "").replace(/\s+/g, " ").trim() });

  return { make, block, line };
})();
