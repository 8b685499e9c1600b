"""Tasks: what a task folder says, and its items as frozen samples.

Reads: ``tasks/<name>/task.yaml`` (built in, or below an ``--include-path``), an lm-eval task whose ``metadata.harness``
block says how its documents become samples, which judges grade them and which metrics sum them up; the documents come
through lm-eval's own TaskManager, so that stock ``lm_eval`` runs the same folder on the same items. Writes nothing.
"""

from harness.tasks.loading import LoadedTask, load_spec, load_task, task_names
from harness.tasks.spec import LABELS, Columns, TaskSpec
from harness.tasks.stock import (
    auc,
    balanced_accuracy,
    f1,
    recall_harmful,
    recall_harmless,
    stock_results,
    with_prompts,
)

__all__ = [
    "LABELS",
    "Columns",
    "LoadedTask",
    "TaskSpec",
    "auc",
    "balanced_accuracy",
    "f1",
    "load_spec",
    "load_task",
    "recall_harmful",
    "recall_harmless",
    "stock_results",
    "task_names",
    "with_prompts",
]
