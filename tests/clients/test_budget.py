"""The budget holds whatever the bills are, and uses what it may."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clients.base import ChatRequest, Usage
from harness.clients.budget import MARGIN, N_SURE, UNSURE, Budget, BudgetReached, worst_case
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


def spend(budget, usages, width, price=PRICE):
    """Sends while the budget lets, ``width`` at once, oldest reply first; the requests that were billed."""
    under_way, billed, usages = [], 0, iter(usages)
    worst = worst_case(REQUEST, price)
    while True:
        while len(under_way) < width and budget.reserve(worst):
            usage = next(usages, None)
            if usage is None:
                budget.settle(worst, None, None, failed=True)
                width = 0
            else:
                under_way.append(usage)
        if not under_way:
            return billed
        usage = under_way.pop(0)
        budget.settle(worst, cost(usage, price), usage, failed=False)
        billed += cost(usage, price)


HONEST = Usage(40, 100)


@given(
    st.integers(1, 300),
    st.floats(0, 5),
    st.floats(0, UNSURE),
    st.floats(0, UNSURE),
)
def test_no_bill_up_to_four_times_the_most_passes_the_limit(width, limit, input_factor, output_factor):
    worst = worst_case(REQUEST, PRICE)
    usage = Usage(int(worst.input_tokens * input_factor), int(worst.output_tokens * output_factor))
    budget = Budget(limit)
    billed = spend(budget, [usage] * 2000, width)
    assert billed == pytest.approx(budget.spent_usd)
    assert billed <= limit + 1e-9


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 400)), min_size=1, max_size=500), st.floats(0, 2))
def test_bills_that_vary_within_the_most_never_pass_the_limit(usages, limit):
    budget = Budget(limit)
    assert worst_case(REQUEST, PRICE).input_tokens >= 80
    billed = spend(budget, [Usage(min(i, 80), o) for i, o in usages], 50)
    assert billed <= limit + 1e-9


def test_nearly_all_of_a_budget_is_used():
    budget = Budget(2.0)
    assert 1.9 <= spend(budget, [HONEST] * 10000, 64) <= 2.0


def test_what_was_spent_before_counts():
    budget = Budget(2.0, already_spent_usd=1.5)
    assert spend(budget, [HONEST] * 10000, 64) <= 0.5


def test_a_reply_without_usage_counts_as_the_most_and_a_failure_as_nothing():
    worst = worst_case(REQUEST, PRICE)
    budget = Budget(10.0)
    assert budget.reserve(worst)
    set_aside = budget.reserved_usd
    budget.settle(worst, None, None, failed=False)
    assert budget.spent_usd == pytest.approx(set_aside)
    assert budget.reserve(worst)
    budget.settle(worst, None, None, failed=True)
    assert budget.spent_usd == pytest.approx(set_aside)
    assert budget.reserved_usd == pytest.approx(0.0)


def test_bills_teach_how_much_to_set_aside():
    worst = worst_case(REQUEST, PRICE)
    budget = Budget(100.0)
    for _ in range(N_SURE):
        budget.reserve(worst)
        budget.settle(worst, 0.0, Usage(worst.input_tokens // 2, worst.output_tokens * 3), failed=False)
    budget.reserve(worst)
    wanted = worst.input_tokens // 2 * worst.input_usd + worst.output_tokens * 3 * worst.output_usd
    assert budget.reserved_usd == pytest.approx(MARGIN * wanted)


def test_the_message_is_one_line_for_the_user():
    told = BudgetReached.at(9.876, 10.0)
    assert isinstance(told, UserError)
    assert "9.88 of 10.00 USD" in str(told)
    assert "--budget-usd" in str(told)
    assert "\n" not in str(told)


def test_processes_that_open_the_same_file_keep_one_budget(tmp_path):
    worst = worst_case(REQUEST, PRICE)
    first = Budget(10.0, 4.0, tmp_path / "budget")
    second = Budget(10.0, None, tmp_path / "budget")
    n_first = n_second = 0
    while first.reserve(worst):
        n_first += 1
        n_second += second.reserve(worst)
    assert n_first - 1 <= n_second
    assert first.reserved_usd == second.reserved_usd <= 6.0
    second.settle(worst, 0.5, HONEST, failed=False)
    assert first.spent_usd == 4.5
    assert Budget(10.0, 1.0, tmp_path / "budget").reserved_usd == 0.0  # a later start begins anew
