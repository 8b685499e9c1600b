"""How often the paired test over training seeds finds a true difference: two methods 15 points apart on 100 prompts.

Answers are right or wrong; prompts differ in how hard they are, seeds not at all. Prints a Markdown table of the share of
600 simulated comparisons that the test rejects at 5 %, beside the share where the methods are equally good.

    OMP_NUM_THREADS=1 python tests/benchmarks/seeds_power.py
"""

import numpy as np
from scipy.stats import norm

from harness.stats.paired import pair_aligned, paired_over_seeds

N_PROMPTS, N_RUNS, RATE, PROMPT_SD, METHOD_SD = 100, 600, 0.5, 1.0, 0.3


def rejected(n_seeds: int, difference: float, rng: np.random.Generator) -> float:
    """Share of comparisons in which the test finds a difference."""
    scale = (1 + PROMPT_SD**2 + METHOD_SD**2) ** 0.5
    found = 0
    for _ in range(N_RUNS):
        hard, sides = rng.normal(0, PROMPT_SD, N_PROMPTS), []
        for rate in (RATE + difference, RATE):
            own = norm.ppf(rate) * scale + hard + rng.normal(0, METHOD_SD, N_PROMPTS)
            sides.append((own + rng.normal(size=(n_seeds, N_PROMPTS)) > 0).astype(float))
        p_value = paired_over_seeds([pair_aligned(*pair) for pair in zip(*sides, strict=True)], binary=True).p_value
        found += p_value is not None and p_value <= 0.05
    return found / N_RUNS


def main() -> None:
    """Prints the table."""
    rng = np.random.default_rng(3)
    print("| seeds | 15 points apart | equally good |\n|---|---|---|")
    for n_seeds in (1, 2, 3, 5):
        print(f"| {n_seeds} | {rejected(n_seeds, 0.15, rng):.3f} | {rejected(n_seeds, 0.0, rng):.3f} |", flush=True)


if __name__ == "__main__":
    main()
