"""A table as an HTML fragment (and as a page of its own), by Jinja2 with everything escaped."""

from __future__ import annotations

from harness.reporting.browser.links import asset, samples_link
from harness.reporting.table import Table

FRAGMENT = """\
<div class="scroll"><table class="scores">
<thead><tr>{% for group in table.groups %}<th scope="col">{{ group }}</th>{% endfor -%}
{% for heading in table.headings %}<th scope="col" class="number">{{ heading.title() }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr>
{%- for head in row.heads %}{% if loop.first %}<th scope="row">{{ head }}</th>{% else %}<td>{{ head }}</td>{% endif %}
{%- endfor %}
{%- for cell in row.cells %}{% set of = {"metric": table.headings[loop.index0].metric, "subject": row.subject} -%}
<td class="number">
{%- if samples and cell.estimate %}<a class="value" href="{{ link(samples, counted="scored", **of) }}">
{{- cell.text.value }}</a>{% else %}<span class="value">{{ cell.text.value }}</span>{% endif %}
{%- if cell.text.difference %}<sup class="{{ 'unclear' if cell.text.difference.endswith('n.s.)') else 'clear' }}">
{{- cell.text.difference }}</sup>{% endif %}
{%- for part in (cell.text.interval, cell.text.coverage, cell.text.bounds) if part %}<small>{{ part }}</small>
{%- endfor %}{% if cell.text.published %}<small class="paper">{{ cell.text.published }}</small>{% endif %}</td>
{%- endfor %}
</tr>
{% endfor %}</tbody></table></div>
<ul class="notes">{% for note in table.footnotes %}<li>{{ note }}</li>{% endfor %}</ul>
"""
PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ table.title }}</title><style>{{ STYLE | safe }}</style></head>
<body><main><h1>{{ table.title }}</h1><p>{{ table.caption }}</p>
{{ fragment | safe }}</main></body></html>
"""
STYLE = asset("report.css")
"""The styles of all pages; a page of one table holds them itself."""


def html_fragment(table: Table, samples: str | None = None) -> str:
    """The table and its footnotes, for a page that has the styles.

    Args:
        table: The table.
        samples: The sample browser as seen from that page; each number then links to the samples behind it.
    """
    return _render(FRAGMENT, table=table, samples=samples, link=samples_link)


def to_html(table: Table, samples: str | None = None) -> str:
    """The table as a page of its own, styles included, dark mode aware; ``samples`` as in `html_fragment`."""
    return _render(PAGE, table=table, fragment=html_fragment(table, samples), STYLE=STYLE)


def _render(template: str, **values: object) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(template).render(**values)
