"""What `harness show` says of a run in one line: which cells are whole, and how many answers they hold."""

from harness.terminal import print_status


def cell(answered, planned=10, verdicts=10, **outcomes):
    return {
        "subject": "s", "task": "t", "planned": planned, "answered": answered, "prompts_truncated": 0,
        "outcomes": outcomes or {"ok": answered}, "verdicts_planned": verdicts, "verdicts_owed": planned - answered,
        "judged": min(answered, verdicts), "verdicts": {"ok": min(answered, verdicts)},
    }  # fmt: skip


def said(capsys, *cells):
    complete = all(row["answered"] == row["planned"] for row in cells)
    state = {"run": "r", "path": "r", "training": [], "answers": cells, "reasons": [], "spent": {}, "torn_lines": {}}
    print_status({**state, "complete": complete})
    return capsys.readouterr().out


def test_a_run_that_answered_nothing_praises_nothing(capsys):
    out = said(capsys, cell(0), cell(0))
    assert "None of the 2 cells (subject × task) is whole; 0 of 20 answers are there." in out
    assert "with no answer" not in out


def test_the_answers_of_whole_cells_are_told_apart_from_all(capsys):
    out = said(capsys, cell(10), cell(10, ok=8, truncated=2), cell(10, verdicts=0))
    whole = "2 of 3 cells (subject × task) are whole, with no answer empty, cut short or unjudged; they hold 20 of the 30 answers."
    assert whole in out
    assert "Nothing is owed." in out
