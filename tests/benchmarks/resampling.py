"""How long the statistics of a large table take and how much memory: 8 methods, 10,000 items, 10,000 resamples.

Makes item values that share a difficulty, so that the methods are correlated as answers to the same prompts are. Prints a
Markdown table of CPU seconds and peak memory of each step, every comparison against the first method.

    OMP_NUM_THREADS=1 python tests/benchmarks/resampling.py
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np

from harness.stats.bootstrap import bca_mean, bootstrap_difference, hierarchical_difference
from harness.stats.margins import non_inferior
from harness.stats.paired import pair_aligned, paired_difference

N_METHODS, N_ITEMS, N_SEEDS = 8, 10_000, 3
NAMES = [f"m{i}" for i in range(N_METHODS)]
CLUSTERS = [i // 4 for i in range(N_ITEMS)]


def table(seed: int) -> dict[str, np.ndarray]:
    """Scores from 1 to 10 of every method on the same items."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(6, 2, N_ITEMS)
    return {name: np.clip(hard + 0.02 * i + rng.normal(0, 1.5, N_ITEMS), 1, 10).round() for i, name in enumerate(NAMES)}


def steps() -> dict[str, Callable[[], object]]:
    values = table(0)
    first, others = values[NAMES[0]], [values[name] for name in NAMES[1:]]
    seeds = [table(seed) for seed in range(N_SEEDS)]
    runs = {name: {seed: one[name] for seed, one in enumerate(seeds)} for name in NAMES}
    later = {name: {seed + N_SEEDS: column for seed, column in run.items()} for name, run in runs.items()}
    pairs = {name: [pair_aligned(one[name], one[NAMES[0]], CLUSTERS) for one in seeds] for name in NAMES[1:]}
    return {
        "BCa mean, 8 methods": lambda: [bca_mean(column, N_ITEMS, (1, 10)) for column in values.values()],
        "paired bootstrap, 7 differences": lambda: [bootstrap_difference(one, first) for one in others],
        "the same, 2,500 clusters": lambda: [bootstrap_difference(one, first, CLUSTERS) for one in others],
        "seeds and prompts, paired seeds, 7": lambda: [
            hierarchical_difference(runs[name], runs[NAMES[0]], paired_seeds=True, span=9) for name in NAMES[1:]
        ],
        "seeds and prompts, other seeds, 7": lambda: [
            hierarchical_difference(runs[name], later[NAMES[0]], paired_seeds=False, span=9) for name in NAMES[1:]
        ],
        "paired permutation, 7": lambda: [paired_difference(one, first, binary=False) for one in others],
        "non-inferior over 3 seeds, 7": lambda: [
            non_inferior(each, 0.1, binary=False, span=9) for each in pairs.values()
        ],
    }


def main() -> None:
    """Prints the table."""
    print("| step | CPU seconds | peak memory so far, MB |\n|---|---|---|")
    scale = 2**20 if sys.platform == "darwin" else 2**10
    for name, step in steps().items():
        start = time.process_time()
        step()
        seconds = time.process_time() - start
        print(
            f"| {name} | {seconds:.1f} | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale:.0f} |", flush=True
        )


if __name__ == "__main__":
    main()
