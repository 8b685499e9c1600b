"""What models write harms nobody who looks at it, and is nowhere in a redacted report."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.blocks import ModelConfig
from harness.judging import Panel
from harness.records import JudgeSpec, Verdict
from harness.reporting.browser import write_browser
from harness.reporting.browser.categories import categories, is_sensitive
from harness.reporting.browser.columns import column
from harness.reporting.browser.overview import write_overview
from harness.reporting.browser.provenance import address, provenance
from harness.reporting.browser.scripts import script_json
from harness.store import append
from tests.reporting.browser_driver import Question, browser, look, made_run  # noqa: F401

MARK = "SEEN" + "BY" + "NOBODY"
NASTY = {
    "script": f"</script></pre><script>window.harmed = 1; alert('{MARK}')</script>",
    "image": f"<img src=x onerror=\"window.harmed = 1; alert('{MARK}')\"> <img src='http://192.0.2.1/{MARK}.png'>",
    "style": f"<style>body{{display:none}}</style><link rel=stylesheet href='//192.0.2.1/{MARK}'><base href='http://192.0.2.1/'>",
    "frame": f"<iframe src='javascript:parent.harmed=1'></iframe><a href='javascript:harmed=1' id=list>{MARK}</a><form id=status>",
    "code": f"\"');window.harmed=1;//\\ `${{window.harmed=1}}` {{{{ 7*7 }}}} {MARK} */ --> ]]>",
    "lines": f"a\u2028b\u2029c\r\nd\x00e\x07f {MARK}",
    "unseen": f"pay\u200bload {MARK} \ufeff\u2060end",
    "turned": f"{MARK} שלום עולם \u202egnp.exe\u202c \u2067abc",
    "surrogate": f"{MARK} \ud800 alone \udfff",
    "chinese": f"{MARK} 我不能提供这个信息。",
    "emoji": f"{MARK} 👩‍🚀 नमस्ते می‌خواهم",
    "long": (f"{MARK} word " * 10000)[:100_000],
    "empty": "",
}
NAMES = list(NASTY)


def asked():
    return {
        "saferlhf_harmless": [
            Question(
                (f"{text} prompt {name}",),
                {"kind": "theft" if i % 2 else "fraud", "note": text, "quoted": MARK if i % 2 else "other"},
            )
            for i, (name, text) in enumerate(NASTY.items())
        ]
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = made_run(
        tmp_path_factory.mktemp("made"),
        asked(),
        lambda task, number, subject, seed: NASTY[NAMES[number]],
        {"one": "<b>One</b>", "two": "Two</script><script>alert(1)</script>"},
        (0,),
        notes=["<script>alert(1)</script> a note"],
        models={"gpt": {"backend": "openai", "model": "m", "base_url": "http://localhost:1/v1?key=hunter2",
                        "api_key_env": "SOME_KEY", "extra": {"api_key": "hunter2"}}},
    )  # fmt: skip
    items = {
        cell: [one._replace(verdicts={n: v.model_copy(update={"raw": v.reason + NASTY["script"]}) for n, v in one.verdicts.items()}) for one in each]
        for cell, each in made.loaded.items.items()
    }  # fmt: skip
    return made._replace(loaded=made.loaded._replace(items=items))


def written(made, out, redact):
    write_overview(made.scores, [], [], [], out, notes=made.scores.notes, loaded=made.loaded)
    write_browser(made.loaded, made.scores, out, redact=redact)
    return out


@pytest.fixture(scope="module")
def report(made, tmp_path_factory):
    return written(made, tmp_path_factory.mktemp("report"), redact=False)


def unharmed(looked, folder):
    assert looked.page.evaluate("window.harmed") is None
    assert (
        looked.page.locator("#content script, #content img, #content iframe, #content style, #content a").count() == 0
    )
    looked.harmless(folder)


def test_nothing_that_a_model_writes_runs_loads_or_asks(look, report):  # noqa: F811
    looked = look((report / "samples.html").as_uri())
    page = looked.page
    page.wait_for_selector("body[data-ready]")
    page.keyboard.press("Shift+R")
    for number in range(1, len(NAMES) + 1):
        page.evaluate("item => { location.hash = 'with=two&item=' + item; }", f"saferlhf_harmless:{number}:one:0")
        page.wait_for_selector(f"#title >> text=/ {number} · seed 0$/")
        page.wait_for_selector("#content .card:nth-child(2):last-child")
        for folded in page.locator("#content details").all():
            folded.evaluate("one => { one.open = true; }")
        unharmed(looked, report)
    page.fill("#q", NASTY["image"])
    page.wait_for_selector("#status[data-complete=true]:not([data-count='26'])")
    assert page.get_attribute("#status", "data-count") == "2"
    unharmed(looked, report)


def answer_of(look, report, name):  # noqa: F811
    page = look((report / "samples.html").as_uri() + f"#item=saferlhf_harmless:{NAMES.index(name) + 1}:one:0").page
    page.wait_for_selector("#content .card")
    page.keyboard.press("Shift+R")
    return page, page.locator("#content .card .answer")


def test_a_text_of_100_kilobytes_is_collapsed_until_asked_for(look, report):  # noqa: F811
    _, answer = answer_of(look, report, "long")
    assert len(answer.text_content()) < 5000
    answer.locator("button").click()
    assert len(answer.text_content()) == 100_000
    assert answer.locator("button").count() == 0


def test_right_to_left_text_keeps_to_its_place_and_unseen_characters_are_seen(look, report):  # noqa: F811
    _, answer = answer_of(look, report, "turned")
    assert answer.locator(".unseen").all_text_contents() == ["U+202E", "U+202C", "U+2067"]
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", answer.text_content())
    assert answer.locator("pre").get_attribute("dir") == "auto"
    page, answer = answer_of(look, report, "unseen")
    assert answer.locator(".unseen").all_text_contents() == ["U+200B", "U+FEFF", "U+2060"]
    assert page.locator(".entry bdi").count() > 0
    _, answer = answer_of(look, report, "emoji")
    assert answer.text_content() == NASTY["emoji"], "joiners stay"
    _, answer = answer_of(look, report, "chinese")
    assert answer.text_content() == NASTY["chinese"]


UNSEEN = {
    "mark of Arabic": ("a\u061cb", ["U+061C"]),
    "vowel separator": ("a\u180eb", ["U+180E"]),
    "C1 controls": ("a\x80\x9bb\x9f", ["U+0080", "U+009B", "U+009F"]),
    "joiners in Latin": ("pay\u200cload e\u200dnd", ["U+200C", "U+200D"]),
    "joiners that pile up": ("می\u200c\u200c\u200cخ 👩\u200d\u200d🚀", ["U+200C", "U+200C", "U+200D"]),
    "tags": ("".join(chr(0xE0000 + ord(letter)) for letter in "Hi") + "\U000e0001\U000e007f",
             ["U+E0048", "U+E0069", "U+E0001", "U+E007F"]),
    "selectors": ("a\ufe0f\ufe00b😀\U000e0100\U000e01ef", ["U+FE0F", "U+FE00", "U+E0100", "U+E01EF"]),
    "fillers": ("a\u115f\u3164\uffa0\u034f", ["U+115F", "U+3164", "U+FFA0", "U+034F"]),
    "needed": ("می\u200cخواهم क\u094d\u200dष 👩\u200d🚀 ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 👩🏽\u200d🚀 é ñ 你好\t\r\n \xa0", []),
}  # fmt: skip


def test_no_character_hides(look, report):  # noqa: F811
    page = look((report / "samples.html").as_uri()).page
    page.wait_for_selector("body[data-ready]")
    for name, (text, marked) in UNSEEN.items():
        codes = page.evaluate(
            "text => [...Safe.block(text).querySelectorAll('.unseen')].map((one) => one.textContent)", text
        )
        assert codes == marked, name
        left = page.evaluate("text => Safe.line(text)", text)
        assert not any(chr(int(code[2:], 16)) in left for code in marked) or name == "joiners that pile up", name
        whole = page.evaluate("text => Safe.block(text).textContent", text)
        assert re.sub(r"U\+[0-9A-F]{4,5}", lambda code: chr(int(code[0][2:], 16)), whole) == text, name


def test_facts_and_labels_hide_nothing_either(look, report):  # noqa: F811
    page, _ = answer_of(look, report, "unseen")
    assert page.locator("dl .unseen").all_text_contents() == ["U+200B", "U+FEFF", "U+2060"]


def test_the_policy_keeps_everything_else_out(look, report):  # noqa: F811
    for name in ("samples.html", "index.html"):
        looked = look((report / name).as_uri())
        looked.page.evaluate(
            """() => {
              document.body.insertAdjacentHTML("beforeend", "<img src='http://192.0.2.1/x.png' onerror='window.harmed=1'>");
              for (const [tag, name] of [["script", "src"], ["iframe", "src"]]) {
                const one = document.createElement(tag);
                one[name] = "http://192.0.2.1/x.js";
                document.body.append(one);
              }
              const own = document.createElement("script");
              own.textContent = "window.harmed = 2";
              document.body.append(own);
            }"""
        )
        looked.page.wait_for_timeout(200)
        assert looked.page.evaluate("window.harmed") is None
        assert len(looked.errors) >= 3
        assert all("Content Security Policy" in error for error in looked.errors), looked.errors


def test_pages_name_no_address_elsewhere(report):
    for path in [*report.glob("*.html"), *(report / "assets").iterdir()]:
        assert not re.search(r"(https?:)?//[a-z0-9]", path.read_text().replace("://localhost:1/v1", "")), path.name


def test_a_redacted_report_holds_no_text_at_all(look, made, report, tmp_path):  # noqa: F811
    out = written(made, tmp_path, redact=False)
    assert any(MARK.encode() in path.read_bytes() for path in out.rglob("*.js"))
    written(made, out, redact=True)
    for path in out.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for text in [MARK, "prompt script", "我不能", "alone", "counts the words", "refusal phrase"]:
            assert text.encode() not in content, f"{text} in {path.name}"
            assert json.dumps(text)[1:-1].encode() not in content, f"{text} in {path.name}"
    looked = look((out / "samples.html").as_uri() + "#metric=refusal_rate&subject=one&counted=scored")
    looked.page.wait_for_selector("body[data-ready]")
    looked.page.wait_for_selector("#content .card")
    assert looked.page.get_attribute("#status", "data-count") == "12"
    assert "kind" in looked.page.text_content("#content")
    assert not looked.page.locator("#q").is_visible()
    assert "texts left out" in looked.page.text_content("header")
    looked.harmless(out)


def test_provenance_holds_no_key(made, monkeypatch, report):
    monkeypatch.setenv("SOME_KEY", "hunter2")
    told = str(provenance(made.loaded))
    assert "http://localhost:1/v1" in told
    for path in report.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path.name
    assert address("https://u:p@host/v1?key=1#2") == "https://host/v1"
    assert ModelConfig(backend="openai", model="m").base_url is None


def test_every_vote_of_a_panel_is_there(made, tmp_path):
    """`LoadedRun` holds the panel's verdict; the browser also gives each seat's."""
    spec = JudgeSpec(name="panel", version="1", content="c")
    loaded = made.loaded
    completion = next(iter(loaded.items.values()))[0].completion
    votes = [
        Verdict(completion_key=completion.key, text_hash=completion.text_hash, judge_key=spec.key, seat=seat, outcome="ok",
                label="harmful", reason=f"vote {seat}", raw=f"Verdict: [[{seat}]]")
        for seat in (1, 0)
    ]  # fmt: skip
    append(loaded.run.verdicts_file, votes)
    write_browser(
        loaded._replace(judges={**loaded.judges, "panel": Panel((spec,), 2)}), made.scores, tmp_path, redact=False
    )
    part = (tmp_path / "data" / "answers-0.js").read_text()
    seats = json.loads(part.removeprefix('receive("answers",0,').removesuffix(");\n"))[0][1]["s"]
    assert [[seat, reason, raw] for _, seat, _, reason, raw in seats] == [
        [0, "vote 0", "Verdict: [[0]]"], [1, "vote 1", "Verdict: [[1]]"]
    ]  # fmt: skip


JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.characters(codec=None)), st.lists)


@given(JSON)
def test_data_in_scripts_are_the_same_data_and_plain_utf8(value):
    text = script_json(value)
    assert json.loads(text) == value
    text.encode("utf-8")
    assert not re.search("[<\u2028\u2029]", text)


@given(st.lists(st.none() | st.integers() | st.text(), max_size=600))
def test_columns_decode_to_their_values(values):
    import base64

    coded = column(values)
    codes = base64.b64decode(coded["d"])
    width = coded["b"]
    read = [coded["v"][int.from_bytes(codes[i : i + width], "little")] for i in range(0, len(codes), width)]
    assert read == values


def test_wide_columns_take_wide_codes():
    assert [column(range(n))["b"] for n in (255, 256, 65535, 65536)] == [1, 2, 2, 4]


def test_categories_are_short_and_few_labels(made):
    found = categories(made.loaded.samples, redact=False)
    assert set(found) == {"kind", "quoted"}
    assert set(categories(made.loaded.samples, redact=True)) == {"kind"}


@pytest.mark.parametrize(
    ("names", "blurred"),
    [
        (["red_team", "refusal"], True),
        (["vale_harmless", "score"], True),
        (["talk", "hijack_rate"], True),
        (["vale_helpful", "helpful", "Over-refusal", "refused"], False),
        (["scored", "predicted", "rendered"], False),
        (["anything"], True),
    ],
)
def test_texts_of_tasks_about_harm_are_sensitive(names, blurred):
    assert is_sensitive(names) is blurred
