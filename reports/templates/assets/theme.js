"use strict";
/* The colour scheme: the system's until the reader chooses one, which this browser then keeps. */
(() => {
  const place = "harness theme";
  const root = document.documentElement;
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

  function kept() {
    try { return localStorage.getItem(place); } catch { return null; }
  }

  function use(theme) {
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.setAttribute("aria-pressed", String(theme === "dark"));
  }

  use(kept() || system());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => kept() || use(system()));
  document.addEventListener("DOMContentLoaded", () => {
    use(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const theme = root.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem(place, theme); } catch { /* a browser without storage: the choice lasts for this page */ }
      use(theme);
    });
  });
})();
