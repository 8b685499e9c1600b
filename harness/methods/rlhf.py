"""RLHF: a reward model from good against bad responses, then policy optimisation with a KL penalty (paper, baselines).

The paper used PPO; the optimiser here is the trainer's (``trainer.rlhf.optimiser``: RLOO or GRPO).
``trainer.rlhf.lagrangian`` adds Safe RLHF's cost model and limit; the same pairs teach it.
"""

from harness.methods.base import Prepared, Workbench
from harness.methods.preferences import preferences
from harness.records import Style

STYLE: Style = "ordinary"
NEEDS: frozenset[str] = frozenset({"mistakes"})
OBJECTIVE = "rlhf"


def prepare(bench: Workbench) -> Prepared:
    """The pairs for the reward model; the policy answers their prompts and those of the other rows."""
    return bench.finish(preferences(bench))
