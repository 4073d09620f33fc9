"""The style of the benchmark's page: that of the evaluation report, and what its charts and tables need beyond it."""

from ..training.report_style import STYLE as EVALUATION_STYLE

STYLE = (
    EVALUATION_STYLE
    + """
body { max-width: 76rem; }
header { padding-bottom: .4rem; }
.kicker { margin: 0 0 .2rem; color: var(--faint); font-size: .85rem; letter-spacing: .06em; text-transform: uppercase; }
.lead { font-size: 1.08rem; max-width: 52rem; }
.findings { margin: 1rem 0; padding: 0; list-style: none; display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); }
.findings li { background: var(--soft); border: 1px solid var(--rule); border-radius: .6rem; padding: .75rem 1rem; max-width: none; }
.findings strong { display: block; font-size: 1.75rem; line-height: 1.15; font-variant-numeric: tabular-nums; }
.findings span { color: var(--faint); font-size: .88rem; }
.warnings { margin: 1rem 0; padding: .6rem 1rem .6rem 2rem; border-left: 4px solid var(--warn); background: var(--soft); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .2rem; }
th[scope="row"] { vertical-align: top; font-weight: 500; text-align: left; min-width: 10.5rem; max-width: 15.5rem; white-space: normal; }
thead th:first-child { text-align: left; }
.wide tbody th { position: sticky; left: 0; background: var(--paper); }
.wide:focus-visible { outline: 2px solid var(--c0); }
table.cases td:nth-child(2) { text-align: left; } table.cases thead th:nth-child(2) { text-align: left; }
td:first-child { min-width: 0; }
th small { display: block; color: var(--faint); font-weight: 400; }
tbody tr:hover > * { background: var(--soft); }
.again { display: block; color: var(--faint); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.wide tr:has(+ tr .again) > * { border-bottom-style: dotted; }
.warnings li { max-width: none; }
.lacking { color: var(--faint); font-style: italic; white-space: nowrap; }
.label { display: inline-block; font-size: .7rem; font-weight: 700; letter-spacing: .03em; padding: 0 .4em; border: 1px solid var(--warn);
  border-radius: .3em; color: var(--warn); text-decoration: none; }
.note { font-size: .82rem; color: var(--faint); margin: .3rem 0 0; }
.unit { font-weight: 400; color: var(--faint); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.6rem 2rem; }
.charts.hero { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); margin-top: 1.4rem; }
figure, .charts > figure { width: auto; min-width: 0; max-width: 36rem; }
ul.legend { list-style: none; margin: .1rem 0 0; padding: 0 0 0 .5rem; } ul.legend li { display: flex; align-items: center; gap: .45em;
  max-width: 100%; }
.sign { display: inline-block; width: 24px; height: 12px; flex: none; }
.swatch { display: inline-block; min-width: 1.4em; padding: 0 .3em; border-radius: .25em; background: var(--c); color: var(--paper);
  font-weight: 600; text-align: center; }
.point { fill: var(--c); fill-opacity: .85; stroke: var(--paper); stroke-width: .6; } .stroke { stroke: var(--c); stroke-width: 2;
  fill: none; }
.part { fill: var(--c); stroke: var(--paper); stroke-width: .8; } svg .inside { fill: var(--paper); font-weight: 600; font-size: 11px; }
.error { stroke: var(--ink); stroke-width: 1.3; fill: none; } svg .said { fill: var(--ink); font-weight: 600; }
.mark { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 2 3; fill: none; }
svg .markname { font-size: 10.5px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
pre.copy { overflow-x: auto; font-size: .78rem; padding: .7rem; background: var(--soft); border: 1px solid var(--rule);
  user-select: all; }
code { font-size: .92em; overflow-wrap: anywhere; }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media (max-width: 56rem) { .charts.hero { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 40rem) { body { padding: 1rem .9rem 3rem; } h1 { font-size: 1.35rem; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  th[scope="row"] { min-width: 7.5rem; max-width: 8.5rem; font-size: .8rem; overflow-wrap: anywhere; } th, td { padding-right: .8rem; } }
@media print { details > * { display: block; } .wide { overflow: visible; } }
"""
)
