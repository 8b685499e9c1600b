"""The stages of a run: plan and seal, train and answer, judge, score. Each reads records and appends records.

Reporting is a stage too and lives in `harness.reporting`. Each stage can be run alone, again, and after a crash.
"""
