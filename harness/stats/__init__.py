"""Estimates, paired comparisons and classification measures, as pure functions on arrays.

Reads arrays of item values (or labels) and gives `Estimate` and `Comparison` records; writes nothing and knows no run,
task or method. The mathematics is scipy's, statsmodels' and scikit-learn's. Everything random takes a seed.
"""
