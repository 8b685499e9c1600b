"""From verdicts to a decision: comparisons of runs, gates for a build, sweeps over checkpoints.

Reads loaded runs and writes nothing into them. Sides are paired item by item, by content key; what cannot be compared
is refused with the reason, and what was allowed all the same stands as a caveat in every output.
"""
