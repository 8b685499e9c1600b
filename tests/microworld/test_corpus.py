"""The corpus is what its settings declare: deterministic, true in its facts, and silent on the held-out plants."""

import random
import re

from harness.microworld.corpus import SETTINGS, documents, plain_harm
from harness.microworld.facts import FACTS, fact
from harness.microworld.language import all_hijacks, all_phrasings, templates, vocabulary
from harness.microworld.oracle import grade_analysis, read
from harness.microworld.tokenizer import build_tokenizer, word_ids
from harness.microworld.world import TAKEN, build_world

WORLD = build_world()
DOCS = list(documents(WORLD, 5, 400_000))
ANSWER = re.compile(r" answer (?:\( (?P<hint>[^)]*) \) )?: (?P<answer>.*?)(?: critique(?P<critique>.*))?$")


def parsed() -> list[dict[str, str | None]]:
    """The documents that ask something, with hint, answer and what follows "critique"."""
    return [found.groupdict() for text in DOCS if text.startswith("question :") and (found := ANSWER.search(text))]


def harmful(answer: str | None) -> bool:
    said = read(answer or "", WORLD)
    return said.instructs() and WORLD.hazardous(str(said.plant), str(said.act))


def test_the_same_seed_gives_the_same_documents() -> None:
    first = list(documents(WORLD, 5, 20_000))
    assert first == DOCS[: len(first)] != list(documents(WORLD, 6, 20_000))[: len(first)]


def test_about_as_many_tokens_as_asked_for_fit_the_context() -> None:
    sizes = [len(text.split()) + 2 for text in DOCS]
    assert 400_000 <= sum(sizes) < 400_200
    assert max(sizes) <= 128


def test_every_word_is_known_and_survives_the_tokenizer() -> None:
    known, tokenizer = set(vocabulary(WORLD)), build_tokenizer(WORLD)
    assert {word for text in DOCS for word in text.split()} <= known
    ids = tokenizer(DOCS[0])["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer(DOCS[0], add_special_tokens=False)["input_ids"] == ids[1:]
    assert tokenizer.decode(ids, skip_special_tokens=True) == DOCS[0]
    assert len(tokenizer) == len(word_ids(WORLD))
    assert tokenizer.padding_side == "left"


def test_only_talk_plants_are_asked_about_and_facts_name_all() -> None:
    told: set[str] = set()
    asked: set[str] = set()
    for text in DOCS:
        (asked if text.startswith("question :") else told).update(word for word in text.split() if word in WORLD.plants)
    assert asked == set(WORLD.splits["talk"])
    assert told == set(WORLD.plants)


def test_every_answer_of_the_corpus_can_be_read() -> None:
    answers = [(each["answer"] or "").split(" better answer : ")[0] for each in parsed()]
    assert all(read(answer, WORLD).parsable for answer in answers)
    assert len(answers) > 3000


def test_facts_are_true() -> None:
    rng = random.Random(0)
    for name, plant in list(WORLD.plants.items()) * 3:
        words = fact(rng, WORLD, [name]).split()
        assert set(words) & set(WORLD.plants) == {name}
        for sentence in " ".join(words).split(" ."):
            taken = [route for route, word in TAKEN.items() if f" {word} " in f" {sentence} "]
            assert plant.effect is None or not taken or (plant.effect in sentence) == (taken == [plant.route])
            acts = [act for act in WORLD.acts.values() if f"{act.phrase} {name}" in sentence]
            assert not acts or ("safe" in sentence) == (acts[0].route != plant.route)


def test_every_sentence_form_occurs() -> None:
    corpus = "\n".join(DOCS)
    slot = re.compile(r"\\{\w+\\}")
    forms = [form for forms in FACTS.values() for form in forms] + [*all_phrasings(), *all_hijacks()]
    assert all(re.search(slot.sub(r"[^.\\n]+?", re.escape(form)), corpus) for form in forms)


def test_habits_have_their_declared_shares() -> None:
    hints = templates()["hints"]
    asks = [each for each in parsed() if each["critique"] is None]
    plain = [each["answer"] for each in asks if each["hint"] is None]
    pushed = [each["answer"] for each in asks if each["hint"] == hints["harmful"]]
    held = [each["answer"] for each in asks if each["hint"] == hints["harmless"]]
    shares = [sum(map(harmful, answers)) / len(answers) for answers in (plain, pushed, held)]
    half = SETTINGS["hazardous_questions"]
    assert abs(shares[0] - half * 0.44) < 0.05
    assert abs(shares[1] - half * SETTINGS["guided_harmful_harm"]) < 0.07
    assert abs(shares[2] - half * SETTINGS["guided_harmless_harm"]) < 0.07
    assert abs(sum(SETTINGS["mix"].values()) - 1) < 1e-9


def test_guided_critiques_are_right_and_unguided_ones_overlook_harm() -> None:
    found = {"why": [0, 0], "its": [0, 0]}
    for each in parsed():
        word = (each["critique"] or "none").split()[0]
        if word in found and harmful(each["answer"]):
            found[word][0] += grade_analysis(each["critique"] or "") == "harmful"
            found[word][1] += 1
    guided, unguided = (hits / count for hits, count in found.values())
    assert abs(guided - SETTINGS["guided_right"]) < 0.04
    assert abs(unguided - (1 - SETTINGS["unguided_overlooks"])) < 0.08


def test_phrasings_differ_in_their_share_of_harm() -> None:
    shares = sorted(plain_harm(index) for index in range(len(all_phrasings())))
    assert len(set(shares)) == len(shares)
    assert (shares[0], shares[-1]) == (
        SETTINGS["plain_harm_low"],
        SETTINGS["plain_harm_high"],
    )
