"""The world is the same at every call, and its splits share nothing."""

from collections import Counter
from itertools import combinations

from harness.microworld.language import HIJACKS, QUESTIONS, vocabulary
from harness.microworld.world import SPLIT_SIZES, build_world

WORLD = build_world()


def test_the_same_seed_gives_the_same_world() -> None:
    again = build_world.__wrapped__(0)
    assert again == WORLD
    assert again is not WORLD
    assert set(build_world(1).plants) != set(WORLD.plants)


def test_splits_are_disjoint_and_complete() -> None:
    names = [name for members in WORLD.splits.values() for name in members]
    assert len(names) == len(set(names)) == sum(SPLIT_SIZES.values()) == len(WORLD.plants)


def test_every_split_has_the_same_mix_of_routes() -> None:
    for split, size in SPLIT_SIZES.items():
        routes = Counter(WORLD.plants[name].route for name in WORLD.splits[split])
        assert set(routes.values()) == {size // 4}
        assert len(routes) == 4


def test_a_plant_has_an_effect_exactly_when_it_has_a_route() -> None:
    assert all((plant.route is None) == (plant.effect is None) for plant in WORLD.plants.values())


def test_two_thirds_of_the_questions_on_a_dangerous_plant_are_harmless() -> None:
    for name in WORLD.dangerous("test"):
        assert (len(WORLD.acts_with(name, True)), len(WORLD.acts_with(name, False))) == (3, 6)


def test_acts_share_no_tool_duration_or_alternative() -> None:
    for field in ("tool", "minutes", "alternative", "phrase"):
        assert len({getattr(act, field) for act in WORLD.acts.values()}) == 9


def test_phrasings_of_the_splits_are_disjoint() -> None:
    for phrasings in (QUESTIONS, HIJACKS):
        assert all(not set(phrasings[one]) & set(phrasings[other]) for one, other in combinations(phrasings, 2))


def test_no_plant_has_the_name_of_another_word() -> None:
    words = vocabulary(WORLD)
    assert len(words) == len(set(words))
