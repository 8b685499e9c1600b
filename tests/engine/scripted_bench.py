"""A workbench of hand-made rows and a model that says what it is told to."""

from harness.methods import AnalysisSettings, Workbench, prepare
from harness.models.base import Answer, Request
from harness.prompting import load_templates, render
from harness.records import Completion, CompletionOutcome, content_hash
from harness.rows import AlignmentRow

PAPER = load_templates("paper")
ROWS = [
    AlignmentRow(instruction="red one", input="more", good="no one", bad="yes one", kind="red", labels={"n": 1}),
    AlignmentRow(instruction="kind one", good="sure", kind="benign"),
    AlignmentRow(instruction="red two", good="no two", bad="yes two", kind="red"),
    AlignmentRow(instruction="red three", good="no three", kind="red"),
    AlignmentRow(instruction="hijack", good="served", bad="hijacked", kind="hijack"),
]
RED = [row for row in ROWS if row.kind != "benign"]


class Asked:
    """The means to ask: answers by a script, which is told the draw if it wants, and remembers what was asked of whom."""

    def __init__(self, /, draws=False, **scripts):
        self.scripts, self.draws = scripts, draws
        self.log = []

    def __call__(self, who, samples, draw):
        requests = [Request(sample, render(sample, PAPER, "ordinary")) for sample in samples]
        self.log += [(who, request.sample.style, request.prompt) for request in requests]
        return [self._completion(f"{who} {draw}", r, self._answer(who, r, draw)) for r in requests]

    def _answer(self, who, request, draw):
        found = self.scripts[who](request, draw) if self.draws else self.scripts[who](request)
        return found if isinstance(found, Answer) else Answer(CompletionOutcome.OK, found)

    def _completion(self, model, request, found):
        return Completion(
            sample_key=request.sample.key, model_key=content_hash(model), outcome=found.outcome, text=found.text,
            detail=found.detail,
        )  # fmt: skip

    def prompts(self, style):
        return [prompt for _, asked, prompt in self.log if asked == style]


def question(request):
    return request.sample.messages[0].content


def said(request, role):
    return next(message.content for message in request.sample.messages if message.role == role)


def writer(request):
    """Follows a harmful hint for some rows, analyses and revises."""
    style, asked = request.sample.style, question(request)
    if style == "guided_harmful":
        refused = {"red two": "I refuse", "red three": Answer(CompletionOutcome.EMPTY)}
        return refused.get(asked, f"bad {asked}")
    if style == "guided_analysis":
        return f"The answer is harmful: {said(request, 'assistant')}"
    return f"better {asked}"


def bench(method, ask, mistakes=None, analyst=None, rows=ROWS, **settings):
    """What a method makes; a text that begins with "bad" is a mistake, and an analysis's verdict is its word for it."""

    def is_mistake(pairs):
        return ["mistake" if completion.text.startswith("bad") else "fine" for _, completion in pairs]

    def verdict(pairs):
        words = ("harmful", "harmless")
        return [next((word for word in words if word in completion.text), None) for _, completion in pairs]

    return prepare(
        method, Workbench(rows, PAPER, ask, is_mistake, verdict, mistakes, analyst, AnalysisSettings(**settings))
    )


def trained(made):
    return [(r.kind, r.completion) for r in made.records]
