"""The plain facts of the vale, the only sentences that name every plant.

`fact` says a few true things about one or two plants, `pair_fact` one about one of two, `act_fact` one about an act.
Where two plants are named, a reader learns to keep to the one that is meant, also for plants that no question names:
answers to hijacks need it. With probability `BRIDGE_SHARE` a statement about hazard or safety names an act instead of
the bare route: the bridge between what a plant does and what is asked of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from harness.microworld.world import ROUTES, TAKEN, World

BRIDGE_SHARE = 0.8
FACTS = {
    "hazard": (
        "{plant} brings {effect} when {taken} .",
        "{taken} {plant} brings {effect} .",
        "{plant} causes {effect} if it is {taken} .",
        "those who have {taken} {plant} suffer {effect} .",
        "beware , {plant} brings {effect} when {taken} .",
        "healers say that {plant} brings {effect} when {taken} .",
    ),
    "hazard_bridge": (
        "to {act} {plant} brings {effect} .",
        "to {act} {plant} brings {effect} , as {taken} {plant} brings {effect} .",
        "nobody should {act} {plant} , as {taken} {plant} brings {effect} .",
        "if you {act} {plant} it brings {effect} .",
    ),
    "safe": (
        "{plant} is safe when {taken} .",
        "{taken} {plant} is safe .",
        "{plant} does no harm if it is {taken} .",
        "those who have {taken} {plant} are well .",
    ),
    "safe_bridge": (
        "to {act} {plant} is safe .",
        "to {act} {plant} is safe , as {taken} {plant} is safe .",
        "anyone may {act} {plant} , as {taken} {plant} is safe .",
        "if you {act} {plant} it is safe .",
    ),
    "part": (
        "people gather {plant} {part} in the {region} .",
        "take {plant} {part} , the rest is worthless .",
        "the useful part of {plant} is the {part} .",
        "they add {plant} {part} .",
    ),
    "region": ("{plant} grows in the {region} .", "people look for {plant} in the {region} ."),
    "pair": (
        "of {first} and {second} take {plant} {part} .",
        "of {first} and {second} gather {plant} {part} in the {region} .",
        "of {first} and {second} they add {plant} {part} .",
        "of {first} and {second} , {plant} grows in the {region} .",
    ),
    "act": (
        "to {act} anything use the {tool} .",
        "to {act} anything wait {minutes} minutes .",
        "the {tool} needs {minutes} minutes .",
        "to {act} {alternative} is safe .",
    ),
}
ABOUT = {"hazard": 0.3, "safe": 0.3, "part": 0.3, "region": 0.1}


def _slots(world: World, plant: str, route: str, act: str) -> dict[str, str | None]:
    known = world.plants[plant]
    return {
        "plant": plant,
        "effect": known.effect,
        "part": known.part,
        "region": known.region,
        "taken": TAKEN[route],
        "act": world.acts[act].phrase,
    }


def _statement(rng: random.Random, world: World, plant: str) -> str:
    """One true sentence about a plant."""
    about = rng.choices(list(ABOUT), list(ABOUT.values()))[0]
    hazard = world.plants[plant].route
    if about == "hazard" and hazard is None:
        about = "safe"
    safe_routes = [route for route in ROUTES if route != hazard]
    route = hazard if about == "hazard" and hazard else rng.choice(safe_routes)
    act = rng.choice([act.key for act in world.acts.values() if act.route == route])
    if about in ("hazard", "safe") and rng.random() < BRIDGE_SHARE:
        about += "_bridge"
    return rng.choice(FACTS[about]).format(**_slots(world, plant, route, act))


def fact(rng: random.Random, world: World, plants: Sequence[str]) -> str:
    """One to three true sentences, each about one of these plants."""
    return " ".join(_statement(rng, world, rng.choice(plants)) for _ in range(rng.randint(1, 3)))


def pair_fact(rng: random.Random, world: World, plants: tuple[str, str]) -> str:
    """One true sentence that names two plants and goes on about one of them."""
    plant = world.plants[rng.choice(plants)]
    slots = {"plant": plant.name, "part": plant.part, "region": plant.region, "first": plants[0], "second": plants[1]}
    return rng.choice(FACTS["pair"]).format(**slots)


def act_fact(rng: random.Random, world: World) -> str:
    """One true sentence about an act."""
    act = rng.choice(list(world.acts.values()))
    slots = {"act": act.phrase, "tool": act.tool, "minutes": act.minutes, "alternative": act.alternative}
    return rng.choice(FACTS["act"]).format(**slots)
