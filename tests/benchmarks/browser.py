"""How fast the sample browser is with many samples: first view, filters, a jump in the list, a whole search.

    python -m tests.benchmarks.browser [ROWS]

Generates a run of about that many answers (100,000 by default; three methods, five seeds), writes the report and drives
it in a headless browser. Bounds: first view within 2 s, any filter within 300 ms.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

from harness.reporting.browser import write_browser
from tests.reporting.browser_driver import FLAGS, Question, browser_path, made_run

SEEDS = (0, 1, 2, 3, 4)
SUBJECTS = {"vanilla": "Vanilla", "sft": "SFT", "ma": "Mistake Analysis", "coh": "Chain of Hindsight"}
WORDS = (
    "answer",
    "turns",
    "on",
    "many",
    "small",
    "things",
    "nobody",
    "wrote",
    "down",
    "before",
    "winter",
    "你好",
    "世界",
)
KINDS = ("fraud", "theft", "violence", "privacy", "self-harm")
FIRST_VIEW, FILTER = 2.0, 0.3


def text(source: random.Random, n: int) -> str:
    """A text of so many words."""
    return " ".join(source.choices(WORDS, k=n))


def make(folder: Path, n_rows: int):
    """The run, its texts of about 600 characters."""
    source = random.Random(0)
    n = n_rows // (len(SUBJECTS) * len(SEEDS)) // 2
    questions = {
        task: [Question((f"{text(source, 20)} {i}",), {"kind": source.choice(KINDS)}) for i in range(n)]
        for task in ("saferlhf_harmless", "over_refusal")
    }
    return made_run(
        folder,
        questions,
        lambda *_: source.choice(("I cannot help with that. ", "Sure. ")) + text(source, source.randrange(60, 140)),
        SUBJECTS,
        SEEDS,
    )


def timed(page, hash_: str) -> tuple[float, float, int]:
    """Seconds until a filter is applied and drawn, those of filtering alone, and the number of samples."""
    seconds = page.evaluate(
        """hash => new Promise((told) => {
          const started = performance.now();
          addEventListener("popstate", () => requestAnimationFrame(() => setTimeout(() => told((performance.now() - started) / 1000))), {once: true});
          location.hash = hash;
        })""",
        hash_,
    )
    alone = float(page.get_attribute("#status", "data-milliseconds")) / 1000
    return seconds, alone, int(page.get_attribute("#status", "data-count"))


def first_view(browser, address: str) -> float:
    """Seconds from asking for the page to its first sample being there, in a fresh profile."""
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    started = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("body[data-ready] #content .card")
    page.wait_for_selector(".entry .reply bdi")
    seconds = time.perf_counter() - started
    page.context.close()
    return seconds


FILTERS = (
    "task=saferlhf_harmless", "subject=sft", "subject=sft&seed=3", "metric=refusal_rate&subject=sft&counted=scored",
    "metric=refusal_rate&flip=vanilla", "metric=refusal_rate&flip=vanilla&change=better",
    "metric=saferlhf_harmless_words&low=10&high=10&sort=high", "verdict=refusal_rules:refused",
    "category=kind=fraud&verdict=refusal_rules:answered", "outcome=ok&subject=ma", "",
)  # fmt: skip


def main() -> None:
    """Prints the times; exits with 1 where a bound is broken."""
    from playwright.sync_api import sync_playwright

    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    path = browser_path()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        made = make(Path(folder), n_rows)
        out = Path(folder) / "report"
        started = time.perf_counter()
        files = write_browser(made.loaded, made.scores, out, redact=False)
        size = sum(file.stat().st_size for file in files)
        print(f"written: {len(files)} files, {size / 1e6:.0f} MB in {time.perf_counter() - started:.1f} s, "
              f"index {(out / 'data' / 'index.js').stat().st_size / 1e6:.1f} MB")  # fmt: skip
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=[*FLAGS])
        address = (out / "samples.html").as_uri()
        views = sorted(first_view(browser, address) for _ in range(5))
        print(f"first view: median {views[2]:.2f} s, slowest {views[-1]:.2f} s")
        slowest = filters(browser, address)
        browser.close()
    sys.exit(views[2] > FIRST_VIEW or slowest > FILTER)


def filters(browser, address: str) -> float:
    """Prints the time of every filter, of a jump to the end and of a search; gives the slowest filter's."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    slowest = 0.0
    for hash_ in FILTERS:
        seconds, alone, n = timed(page, hash_)
        slowest = max(slowest, seconds)
        print(f"filter {hash_ or '(none)'}: {n} samples, {1000 * seconds:.0f} ms drawn, {1000 * alone:.0f} ms alone")
    started = time.perf_counter()
    page.keyboard.press("End")
    page.wait_for_selector(".entry:last-child .reply bdi")
    print(f"jump to the end: {1000 * (time.perf_counter() - started):.0f} ms")
    started = time.perf_counter()
    page.fill("#q", "down before winter")
    page.wait_for_selector("#status[data-complete=false]")
    page.wait_for_selector("#status:not([data-count='0'])")
    first = time.perf_counter() - started
    page.wait_for_selector("#status[data-complete=true]", timeout=120_000)
    print(
        f"search of all texts: first hits after {first:.2f} s, {page.text_content('#status')} after {time.perf_counter() - started:.1f} s"
    )
    return slowest


if __name__ == "__main__":
    main()
