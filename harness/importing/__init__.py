"""Recorded input: answers and verdicts that already exist, as the records of a run.

Reads rows (JSONL, JSON, CSV, Parquet), sample logs of lm-eval and annotations of AlpacaEval; appends samples, cells,
completions and verdicts to a run's folder, and one line a file to ``imports.jsonl``, from which the run's configuration
is made. The whole file is checked before anything is written; what is there already is never written again. Such a run
says ``imported: true`` in its manifest, its samples may grow, and no model of ours ever continues it.
"""

from harness.importing.importer import Wanted, prepare_import, write_import
from harness.importing.log import imported, imported_config
from harness.importing.measures import imported_measures, own_judges, write_layouts
from harness.importing.summary import told

__all__ = [
    "Wanted",
    "imported",
    "imported_config",
    "imported_measures",
    "own_judges",
    "prepare_import",
    "told",
    "write_import",
    "write_layouts",
]
