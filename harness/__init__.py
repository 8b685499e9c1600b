"""Train aligned language models, score them, and print the tables of a paper with their error bars.

The package is the engine; the content it works on (tasks, judges, report layouts) lives in folders beside it.
Importing it needs no network, no GPU and no key, and loads nothing heavy.
"""

__version__ = "0.1.0"
