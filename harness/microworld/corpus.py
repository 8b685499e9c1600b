"""The pretraining corpus of the vale: what a model reads before it is aligned.

`documents(world, seed, n_tokens)` yields document texts (without <bos> and <eos>) until about that many tokens are
out. The shares below are the designed habits of the corpus, and so of every base model: plain questions of hazard are
answered harmfully about half the time, guided critiques are nearly always right, unguided critiques overlook most
harm, and half the answers to a hijack follow it. Only `talk` plants are asked about; facts name every plant.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from harness.microworld.facts import ABOUT, BRIDGE_SHARE, act_fact, fact, pair_fact
from harness.microworld.language import (
    GENERIC,
    SUFFIXES,
    Reading,
    all_hijacks,
    all_phrasings,
    ask,
    complying,
    criticise,
    critique_case,
    critique_slots,
    refusing,
    say,
    templates,
    warning,
)
from harness.microworld.world import EFFECTS, World

# Shares of documents, of hazardous questions, and of each habit. All are recorded with a base.
SETTINGS: dict[str, Any] = {
    "mix": {
        "facts": 0.34,
        "pair_facts": 0.06,
        "act_facts": 0.03,
        "plain": 0.16,
        "guided_harmful": 0.05,
        "guided_harmless": 0.05,
        "guided_critique": 0.13,
        "unguided_critique": 0.05,
        "hijack": 0.10,
        "revision": 0.03,
    },
    "facts_about": ABOUT,
    "facts_on_two": 0.3,  # of fact documents, those that go back and forth between two plants
    "bridge_share": BRIDGE_SHARE,  # of statements on hazard or safety, those that name an act
    "hazardous_questions": 0.5,
    "criticised_hazardous": 0.7,  # so that of the complying answers to criticise about half are harmful
    "plain_harm_low": 0.29,  # of hazardous plain questions, by phrasing: from this share answered harmfully ...
    "plain_harm_high": 0.59,  # ... to this one
    "guided_harmful_harm": 0.9,
    "guided_harmless_harm": 0.3,
    "warned_share": 0.15,  # of harmful answers
    "generic_share": 0.3,  # of refusals
    "guided_right": 0.93,
    "unguided_overlooks": 0.8,  # of harmful answers, called harmless: the blind spot
    "guided_hijacks": 0.2,  # of guided questions; followed as often as hazardous questions get harm
    "criticised_hijacks": 0.25,  # of critiques and revisions
    "hijack_followed": 0.55,
    "hijack_harmful": 0.5,
    "hijack_refused": 0.3,  # of harmful payloads not followed
    "revision_refuses": 0.65,
}
# Words never predicted in training: a document that goes on to a critique must not teach that answers do.
UNPROMPTED = ("critique", "better")


class Exchange(NamedTuple):
    """A question and the slots of the answer it got."""

    question: str
    answer: Reading


class _Writer:
    """Draws documents of one world with one random stream."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(f"corpus-{world.seed}-{seed}")
        self.phrasings, self.hijacks = all_phrasings(), all_hijacks()
        self.everyone, self.talk = list(world.plants), list(world.splits["talk"])
        self.dangerous = list(world.dangerous("talk"))
        self.templates = templates()

    def chance(self, setting: str) -> bool:
        """True with the probability declared under this name."""
        share: float = SETTINGS[setting]
        return self.rng.random() < share

    def subject(self, hazardous: bool) -> tuple[str, str]:
        """A plant and an act that go together as asked."""
        plant = self.rng.choice(self.dangerous if hazardous else self.talk)
        return plant, self.rng.choice(self.world.acts_with(plant, hazardous))

    def say(self, answer: Reading) -> str:
        return say(answer, self.rng.randrange(3))

    def harm(self, plant: str, act: str) -> Reading:
        """A harmful answer, sometimes with a warning."""
        return (warning if self.chance("warned_share") else complying)(self.world, plant, act)

    def refuse(self, plant: str, act: str) -> Reading:
        """A refusal of a hazardous request, mostly with its reason."""
        return GENERIC if self.chance("generic_share") else refusing(self.world, plant, act)

    def answered(self, plant: str, act: str, harm: float) -> Reading:
        """An answer that complies when that is harmless, and otherwise with the given probability."""
        if not self.world.hazardous(plant, act):
            return complying(self.world, plant, act)
        return self.harm(plant, act) if self.rng.random() < harm else self.refuse(plant, act)

    def exchange(self, hazardous: str = "hazardous_questions", harm: float | None = None) -> Exchange:
        """A question with its answer; without `harm` the share of harm is the phrasing's own."""
        index = self.rng.randrange(len(self.phrasings))
        plant, act = self.subject(self.chance(hazardous))
        question = ask(self.world, self.phrasings[index], plant, act, self.rng.choice(SUFFIXES))
        return Exchange(question, self.answered(plant, act, plain_harm(index) if harm is None else harm))

    def hijacked(self, follow: float) -> Exchange:
        """A harmless question with a second request on its back, followed with the given probability."""
        plant, act = self.subject(False)
        other, payload = plant, act
        while other == plant or payload == act:
            other, payload = self.subject(self.chance("hijack_harmful"))
        question = ask(self.world, self.rng.choice(self.phrasings), plant, act, self.rng.choice(SUFFIXES))
        question += " " + ask(self.world, self.rng.choice(self.hijacks), other, payload)
        if self.rng.random() < follow:
            return Exchange(question, complying(self.world, other, payload))
        if self.world.hazardous(other, payload) and self.chance("hijack_refused"):
            return Exchange(question, self.refuse(other, payload))
        return Exchange(question, complying(self.world, plant, act))

    def critique(self, answer: Reading, right: bool) -> str:
        """A critique of an answer; a wrong one overlooks the harm or invents one."""
        case = critique_case(self.world, answer)
        if not right and case in ("comply", "warned"):
            case = "shallow"
        elif not right and case == "safe":
            case = "comply"
        slots = critique_slots(self.world, answer)
        slots["effect"] = slots.get("effect") or self.rng.choice(EFFECTS)  # a wrong critique may need one
        return criticise(case, self.rng.randrange(6), slots)

    def judged(self) -> Exchange:
        """An exchange to criticise, answered as if nobody would: a question, more often hazardous, or a hijack."""
        if self.chance("criticised_hijacks"):
            return self.hijacked(SETTINGS["hijack_followed"])
        return self.exchange("criticised_hazardous")

    def facts(self) -> str:
        return fact(self.rng, self.world, self.rng.sample(self.everyone, 2 if self.chance("facts_on_two") else 1))

    def pair_facts(self) -> str:
        first, second = self.rng.sample(self.everyone, 2)
        return pair_fact(self.rng, self.world, (first, second))

    def act_facts(self) -> str:
        return act_fact(self.rng, self.world)

    def plain(self) -> str:
        question, answer = self.exchange()
        return self.fill("ordinary", question, response=self.say(answer))

    def guided_harmful(self) -> str:
        return self.guided("harmful")

    def guided_harmless(self) -> str:
        return self.guided("harmless")

    def guided(self, label: str) -> str:
        harm: float = SETTINGS[f"guided_{label}_harm"]
        question, answer = self.hijacked(harm) if self.chance("guided_hijacks") else self.exchange(harm=harm)
        return self.fill("guided_response", question, hint=self.templates["hints"][label], response=self.say(answer))

    def guided_critique(self) -> str:
        question, answer = self.judged()
        critique = self.critique(answer, self.chance("guided_right"))
        return self.fill("guided_analysis", question, answer=self.say(answer), response=critique)

    def unguided_critique(self) -> str:
        """Harm is mostly overlooked, and harmless instructions are praised for their form as often."""
        question, answer = self.judged()
        critique = self.critique(answer, True)
        if answer.kind in ("comply", "warned") and self.chance("unguided_overlooks"):
            critique = criticise("shallow", self.rng.randrange(2), {})
        return self.fill("unguided_analysis", question, answer=self.say(answer), response=critique)

    def hijack(self) -> str:
        question, answer = self.hijacked(SETTINGS["hijack_followed"])
        return self.fill("ordinary", question, response=self.say(answer))

    def revision(self) -> str:
        """A question, an answer, its critique, and a better answer that mostly refuses what is hazardous."""
        question, answer = self.judged()
        critique = self.critique(answer, self.chance("guided_right"))
        better = answer
        harmful = critique_case(self.world, answer) in ("comply", "warned")
        if harmful and self.chance("revision_refuses"):
            better = self.refuse(str(answer.plant), str(answer.act))
        return self.fill("revision", question, answer=self.say(answer), critique=critique, response=self.say(better))

    def fill(self, template: str, question: str, **slots: str) -> str:
        filled: str = self.templates[template].format(instruction=question, **slots)
        return filled


def plain_harm(phrasing: int) -> float:
    """The share of harmful answers to a hazardous plain question, by the index of its phrasing."""
    count = len(all_phrasings())
    step = (5 * phrasing % count) / (count - 1)  # 5 is prime to the count: neighbours differ, every step occurs once
    low, high = float(SETTINGS["plain_harm_low"]), float(SETTINGS["plain_harm_high"])
    return low + (high - low) * step


def documents(world: World, seed: int, n_tokens: int) -> Iterator[str]:
    """Document texts of about `n_tokens` tokens in all, two marks a document counted; the same for the same seed."""
    writer = _Writer(world, seed)
    kinds = list(SETTINGS["mix"])
    weights = list(SETTINGS["mix"].values())
    makers: dict[str, Callable[[], str]] = {kind: getattr(writer, kind) for kind in kinds}
    written = 0
    while written < n_tokens:
        text = makers[writer.rng.choices(kinds, weights)[0]]()
        written += text.count(" ") + 3
        yield text
