"""The style of the report: light and dark, wide and narrow, with no file but the page itself."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --faint: #687078; --rule: #d8dce0; --soft: #f4f6f8;
  --c0: #2563b8; --c1: #c2570c; --c2: #0f7b5f; --c3: #8b3fa8; --c4: #7a828a;
  --c5: #a8861a; --c6: #c23a6b; --c7: #3a9db8; --warn: #a33; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191c; --ink: #e4e7ea; --faint: #98a0a8; --rule: #363c42; --soft: #1f2428;
  --c0: #6ea8f0; --c1: #f0975a; --c2: #4cc3a0; --c3: #c98be0; --c4: #8a939b;
  --c5: #d9b94a; --c6: #f07aa0; --c7: #6fc7de; --warn: #f88; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; }
a { color: var(--c0); }
p, li { max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: 0; font-size: .95rem; }
dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
.warn { color: var(--warn); font-weight: 600; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: .3rem; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child, .words td, .words th { text-align: left; }
td { white-space: nowrap; } td:first-child, .words td { white-space: normal; }
.wide td:first-child, .wide th:first-child { position: sticky; left: 0; background: var(--paper); }
.wide td:first-child { min-width: 7.5rem; }
th { font-weight: 600; vertical-align: bottom; }
td small { display: block; color: var(--faint); white-space: nowrap; }
.confusion td, .confusion th { padding: .5rem .9rem; text-align: center; }
.charts { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: 1.2rem 2rem; align-items: flex-start; }
figure { margin: 0; width: 30rem; max-width: 100%; }
figcaption { font-weight: 600; font-size: .92rem; margin-bottom: .2rem; }
figure img { display: block; width: 100%; height: auto; margin-bottom: 3px; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg text { fill: var(--faint); } svg .name { fill: var(--ink); }
.frame { fill: none; stroke: var(--faint); } .grid { stroke: var(--rule); stroke-width: .6; }
.c0 { --c: var(--c0); } .c1 { --c: var(--c1); } .c2 { --c: var(--c2); } .c3 { --c: var(--c3); } .c4 { --c: var(--c4); }
.c5 { --c: var(--c5); } .c6 { --c: var(--c6); } .c7 { --c: var(--c7); }
polyline { fill: none; stroke: var(--c); stroke-width: 2; } polyline.dashed { stroke-dasharray: 5 4; stroke-width: 1.4; }
polygon.band { fill: var(--c); opacity: .16; } circle { fill: var(--c); fill-opacity: .65; }
circle.solid { fill-opacity: 1; } .zero { stroke: var(--faint); stroke-width: 1.2; stroke-dasharray: 5 4; }
.whisker { stroke: var(--c); stroke-width: 1.4; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; font-size: .82rem; color: var(--faint); padding-left: 3.6rem; }
.key::before { content: ""; display: inline-block; width: 1.3em; margin-right: .4em; vertical-align: .25em;
  border-top: 2px solid var(--c); }
.key.dashed::before { border-top-style: dashed; }
.key.points::before { width: .55em; height: .55em; border: 0; border-radius: 50%; background: var(--c); vertical-align: 0; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--c0); }
"""
