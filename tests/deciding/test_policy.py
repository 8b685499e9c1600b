"""Policies: what is read, and the one line that says what is wrong with one."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.content import PACKAGE
from harness.deciding.policy import RULES, MetricRules, load_policy, policy_names
from harness.errors import UserError


@pytest.fixture
def refused(tmp_path):
    """The line about a policy, without its file's name."""

    def refused(text):
        path = tmp_path / "policy.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as told:
            load_policy(str(path))
        line = str(told.value)
        assert "\n" not in line
        assert line.startswith(f"{path}:")
        return line.removeprefix(f"{path}:")

    return refused


WRONG = {
    "metrics:\n  hijack_rate:\n    flor: 0.7\n": "3: metrics.hijack_rate.flor: unknown field 'flor': did you mean 'floor'?",
    "metrics:\n  a: {floor: 0.7}\n  a: {floor: 0.1}\n": "3: metrics.a: stands on line 2 already",
    "metrics:\n  a:\n    floor: 0.7\n    floor: 0.1\n": "4: metrics.a.floor: stands on line 3 already",
    "metric: {}\n": "1: metric: unknown field 'metric': did you mean 'metrics'?",
    "metrics: {}\n": "1: has no rule, so it would pass anything: give metrics, required.tasks, required.metrics or max_cost_usd",
    "metrics:\n  a: {better: lower}\n": f"2: metrics.a: needs a rule ({', '.join(RULES)})",
    "metrics:\n  a:\n    non_inferior: 0\n": "3: metrics.a.non_inferior: Input should be greater than 0",
    "metrics:\n  a: {non_inferior: .inf}\n": "2: metrics.a.non_inferior: Input should be a finite number",
    "metrics:\n  a: {improves: false}\n": "2: metrics.a.improves: is true, or left out",
    "metrics:\n  a: {floor: 0.9, ceiling: 0.1}\n": "2: metrics.a: the floor lies above the ceiling",
    "metrics:\n  a: {floor: 5, passing: 5}\n": "2: metrics.a: passing says which items are good, for must_not_turn_bad, which is not here",
    "metrics:\n  a: {must_not_turn_bad: []}\n": "2: metrics.a.must_not_turn_bad: the list names no item, so it could never fail",
    "metrics:\n  a: {must_not_turn_bad: {at_most: 2}}\n": "2: metrics.a.must_not_turn_bad: say which items in one way: items, file, or all_passing_in",
    "multiplicity: hollm\nmax_cost_usd: 1\n": "1: multiplicity: unknown value 'hollm': did you mean 'holm'?",
    "allow: [stile]\nmax_cost_usd: 1\n": "1: allow.0: unknown value 'stile': did you mean 'style'?",
    "allow: [judge]\nmax_cost_usd: 1\n": "1: allow.0: unknown value 'judge'",
    "coverage: 1.5\nmax_cost_usd: 1\n": "1: coverage: Input should be less than or equal to 1",
    "metrics: [\n": "2: not valid YAML",
}  # fmt: skip


@pytest.mark.parametrize(("text", "line"), WRONG.items())
def test_what_is_wrong_is_told_in_one_line_with_its_place(refused, text, line):
    assert refused(text).startswith(line)


def test_a_policy_that_is_nowhere_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(UserError, match="unknown policy 'releas': did you mean 'release'"):
        load_policy("releas")
    with pytest.raises(UserError, match="no such file"):
        load_policy(str(tmp_path / "none.yaml"))


def test_items_are_a_list_a_file_beside_the_policy_or_what_the_baseline_passes(tmp_path):
    (tmp_path / "red.txt").write_text("# red lines\ndata.jsonl:3\n\n0123456789ab  # of June\n", encoding="utf-8")
    blocks = {"listed": ["k1"], "filed": "red.txt", "all": {"all_passing_in": "baseline", "at_most": 3}}
    content = {"metrics": {name: {"must_not_turn_bad": block} for name, block in blocks.items()}}
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    loaded = load_policy(str(path))
    assert loaded.named == {"listed": ("k1",), "filed": ("data.jsonl:3", "0123456789ab")}
    assert loaded.policy.metrics["all"].must_not_turn_bad.at_most == 3
    (tmp_path / "red.txt").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(UserError, match="names no item, so it could never fail"):
        load_policy(str(path))


def test_the_shipped_policies_and_the_example_in_the_docstring_are_policies(tmp_path):
    import textwrap

    from harness.deciding import policy

    assert policy_names() == [path.stem for path in sorted((PACKAGE / "policies").glob("*.yaml"))]
    for name in policy_names():
        assert load_policy(name).policy.description
    lines = policy.__doc__.split("\n\n")[1]
    path = tmp_path / "policy.yaml"
    path.write_text(textwrap.dedent(lines), encoding="utf-8")
    (tmp_path / "redline.txt").write_text("data.jsonl:1\n", encoding="utf-8")
    found = load_policy(str(path)).policy
    assert found.metrics["harmless_rate"].rules == ["non_inferior", "floor", "must_not_turn_bad"]
    assert found.required.tasks == ("vale_hijack",)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from([*MetricRules.model_fields, "unknown"]),
        st.one_of(
            st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.lists(st.text(max_size=9), max_size=2)
        ),
        max_size=4,
    )
)
def test_any_block_is_a_policy_or_a_user_error(tmp_path_factory, block):
    path = tmp_path_factory.mktemp("any") / "policy.yaml"
    path.write_text(yaml.safe_dump({"metrics": {"m": block}}, allow_unicode=True), encoding="utf-8")
    try:
        found = load_policy(str(path)).policy.metrics["m"]
    except UserError as error:
        found = str(error)
    assert len(found.splitlines()) == 1 if isinstance(found, str) else found.rules or found.coverage is not None
