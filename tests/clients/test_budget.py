"""The budget holds whatever the bills are, and uses what it may."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.clients import budget as budget_module
from harness.clients.base import ChatRequest, Usage
from harness.clients.budget import MARGIN, N_SURE, UNSURE, Budget, BudgetReached, Room, worst_case
from harness.clients.prices import Price, cost
from harness.errors import UserError

PRICE = Price(input=10, output=30)
REQUEST = ChatRequest((("system", "Be a judge."), ("user", "十 out of ten?")), max_tokens=200, n=2)


def test_the_worst_case_bounds_the_bill_of_an_honest_server():
    worst = worst_case(REQUEST, PRICE)
    assert worst.output_tokens == 400
    assert worst.input_tokens >= len("Be a judge.十 out of ten?".encode())
    assert worst_case(REQUEST._replace(schema="{}" * 50), PRICE).input_tokens == worst.input_tokens + 100
    assert worst_case(REQUEST, PRICE, batched=True).output_usd == worst.output_usd / 2


WORST = worst_case(REQUEST, PRICE)
MOST = WORST.input_tokens * WORST.input_usd + WORST.output_tokens * WORST.output_usd


def spend(budget, usages, width):
    """Sends while the budget lets, ``width`` at once, oldest reply first; what was billed."""
    under_way, billed, usages = [], 0, iter(usages)
    while True:
        while len(under_way) < width and (room := budget.reserve(WORST)) is Room.GIVEN:
            usage = next(usages, None)
            if usage is None:
                budget.settle(WORST, None, None, failed=True)
                width = 0
            else:
                under_way.append(usage)
        if not under_way:
            assert width == 0 or room is Room.NONE
            return billed
        usage = under_way.pop(0)
        budget.settle(WORST, cost(usage, PRICE), usage, failed=False)
        billed += cost(usage, PRICE)


HONEST = Usage(40, 100)
USAGES = st.tuples(st.integers(0, WORST.input_tokens), st.integers(0, WORST.output_tokens))


@given(st.lists(USAGES, min_size=1, max_size=300), st.floats(0, 200 * MOST), st.integers(1, 300))
@example([(0, 0)] * N_SURE + [(WORST.input_tokens, WORST.output_tokens)] * 200, 100 * MOST, 300)
def test_no_bills_up_to_the_most_pass_the_limit(usages, limit, width):
    billed = spend(Budget(limit), [Usage(*usage) for usage in usages], width)
    assert billed <= limit + 1e-9


@given(st.integers(1, 300), st.floats(0, 5), st.floats(0, UNSURE), st.floats(0, UNSURE))
def test_bills_of_more_than_the_most_pass_the_limit_at_worst_once_and_then_by_one_request(
    width, limit, input_factor, output_factor
):
    usage = Usage(int(WORST.input_tokens * input_factor), int(WORST.output_tokens * output_factor))
    budget = Budget(limit)
    billed = spend(budget, [usage] * 500, width)
    assert billed == pytest.approx(budget.spent_usd)
    sent_alone = limit < UNSURE * MOST  # only then is the first request sent for less than it may come to
    assert billed <= limit + (max(0.0, cost(usage, PRICE) - MOST) if sent_alone else 0.0) + 1e-9


@given(st.integers(0, WORST.input_tokens), st.integers(100, WORST.output_tokens), st.floats(0, 60), st.integers(1, 300))
def test_a_budget_ends_only_where_not_even_one_more_request_surely_fits(n_read, n_written, n_calls, width):
    limit = n_calls * MOST
    budget = Budget(limit)
    spend(budget, itertools.repeat(Usage(n_read, n_written)), width)
    assert limit - budget.spent_usd < MOST + 1e-9


@pytest.mark.parametrize(("n_calls", "share"), [(0.5, 0), (1, 0.2), (2, 0.5), (5, 0.8), (50, 0.98)])
def test_small_budgets_are_used_too(n_calls, share):
    limit = n_calls * MOST
    assert share * limit <= spend(Budget(limit), [HONEST] * 10_000, 64) <= limit


def test_where_little_is_left_fewer_are_under_way_instead_of_none():
    budget = Budget(4.5 * MOST)
    assert budget.reserve(WORST) is Room.GIVEN
    assert budget.reserve(WORST) is Room.LATER  # nobody knows yet how far bills go
    for _ in range(N_SURE):
        budget.settle(WORST, 0.0, HONEST, failed=False)
        assert budget.reserve(WORST) is Room.GIVEN
    assert [budget.reserve(WORST) for _ in range(4)] == [Room.GIVEN] * 3 + [Room.LATER]
    for _ in range(4):
        budget.settle(WORST, MOST, None, failed=False)
    assert budget.reserve(WORST) is Room.NONE


def test_what_a_process_has_set_aside_that_is_gone_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    killed, left = Budget(1.5 * MOST, 0.0, tmp_path / "budget"), Budget(1.5 * MOST, None, tmp_path / "budget")
    assert killed.reserve(WORST) is Room.GIVEN
    assert left.reserve(WORST) is Room.LATER
    monkeypatch.setattr(budget_module, "STALE_SECONDS", 0.0)
    assert left.reserve(WORST) is Room.NONE


def test_what_was_spent_before_counts():
    budget = Budget(2.0, already_spent_usd=1.5)
    assert spend(budget, [HONEST] * 10000, 64) <= 0.5


def test_a_reply_without_usage_counts_as_the_most_and_a_failure_as_nothing():
    budget = Budget(1.0)
    for failed in (False, True):
        assert budget.reserve(WORST) is Room.GIVEN
        assert budget.reserved_usd == pytest.approx(MOST)
        budget.settle(WORST, None, None, failed=failed)
        assert budget.spent_usd == pytest.approx(MOST)
        assert budget.reserved_usd == 0.0


def test_bills_of_more_than_the_most_teach_how_much_to_set_aside():
    budget = Budget(100.0)
    budget.reserve(WORST)
    budget.settle(WORST, 0.0, Usage(WORST.input_tokens // 2, WORST.output_tokens * 3), failed=False)
    budget.reserve(WORST)
    wanted = WORST.input_tokens * WORST.input_usd + MARGIN * WORST.output_tokens * 3 * WORST.output_usd
    assert budget.reserved_usd == pytest.approx(wanted)


def test_the_message_is_one_line_for_the_user():
    told = BudgetReached.at(9.876, 10.0)
    assert isinstance(told, UserError)
    assert "9.88 of 10.00 USD" in str(told)
    assert "--budget-usd" in str(told)
    assert "\n" not in str(told)


def test_processes_that_open_the_same_file_keep_one_budget(tmp_path):
    first = Budget(10.0, 4.0, tmp_path / "budget")
    second = Budget(10.0, None, tmp_path / "budget")
    n_first = n_second = 0
    while first.reserve(WORST) is Room.GIVEN:
        n_first += 1
        n_second += second.reserve(WORST) is Room.GIVEN
    assert n_first - 1 <= n_second
    assert first.reserved_usd == second.reserved_usd <= 6.0
    second.settle(WORST, 0.5, HONEST, failed=False)
    assert first.spent_usd == 4.5
    assert Budget(10.0, 1.0, tmp_path / "budget").reserved_usd == 0.0  # a later start begins anew
