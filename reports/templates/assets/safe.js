"use strict";
/* Untrusted text on the page: always as text nodes, never as markup; long texts collapsed, unseen characters shown. */

const Safe = (() => {
  const LONG = 4000;
  /* Characters that show nothing: control characters and all that Unicode lets a font ignore (zero-width, direction,
     tags, fillers, variation selectors). A joiner stays where its script or an emoji needs it, and so does an emoji's
     own selector: anywhere else they too can hide something. */
  const JOINING = "Arabic Syriac Mandaic Nko Mongolian Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Khmer Myanmar Tibetan"
    .split(" ").map((script) => "\\p{Script=" + script + "}").join("");
  const UNSEEN = new RegExp([
    "(?<![" + JOINING + "])\\u200c",
    "(?<![" + JOINING + "\\p{Extended_Pictographic}\\p{Emoji_Modifier}\\ufe0f])\\u200d",
    "(?<!\\p{Emoji})[\\ufe0e\\ufe0f]",
    "(?![\\u200c\\u200d\\ufe0e\\ufe0f])[\\p{Default_Ignorable_Code_Point}\\ufff9-\\ufffb]",
    "(?![\\t\\n\\r])\\p{Cc}",
  ].join("|"), "gu");

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
      const code = "U+" + match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      element.append(text.slice(from, match.index), make("span", { class: "unseen", title: "invisible character", text: code }));
      from = match.index + match[0].length;
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

  return { make, fill, block, line };
})();
