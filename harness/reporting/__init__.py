"""Tables, figures and the report page: pure functions from `Scores` and a layout to files.

Reads `Scores` and the content folder ``reports/`` (layouts, published numbers, page template); writes Markdown, LaTeX,
CSV, HTML, PNG and PDF. Every number is printed with its interval and its coverage, every difference is a paired one.
"""
