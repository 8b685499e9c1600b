"""A table as an HTML fragment (and as a page of its own), by Jinja2 with everything escaped."""

from __future__ import annotations

from harness.reporting.browser.links import samples_link
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
STYLE = """
:root{color-scheme:light dark;--ink:#1c2330;--soft:#5a6475;--line:#d5dae3;--back:#fff;--card:#f6f7fa;--good:#00694f;
--bad:#a83a00;--paper:#7a4e8f}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#a3adbd;--line:#39424f;--back:#14181f;--card:#1d232c;
--good:#5fd0ab;--bad:#ffa26b;--paper:#d3a9e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:76rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.7rem;margin:.3rem 0 .2rem}h2{font-size:1.25rem;margin:2.6rem 0 .4rem;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.8rem 0 .3rem}p{max-width:52rem;margin:.3rem 0}
a{color:inherit}.soft,.links,.notes{color:var(--soft)}.links,.notes{font-size:.85rem}.notes{padding-left:1.2rem;max-width:60rem}
.scroll{overflow-x:auto;margin:.6rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;border-top:2px solid var(--ink);
border-bottom:2px solid var(--ink)}
th,td{padding:.35rem .8rem;text-align:left;vertical-align:top;font-weight:400}
thead th{border-bottom:1px solid var(--ink);font-weight:600;vertical-align:bottom}
tbody tr+tr>*{border-top:1px solid var(--line)}tbody th{font-weight:600}
.number{text-align:right;white-space:nowrap}thead .number{white-space:normal}
.value{font-weight:600}sup{font-size:.75rem;margin-left:.25rem}small{color:var(--soft);font-size:.78rem}
td small{display:block;line-height:1.35}
small.paper{color:var(--paper)}sup.unclear{color:var(--soft)}
"""


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
