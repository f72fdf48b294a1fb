"""The page's style sheet: quiet tables, tabular figures, and one palette for light and one for dark."""

from __future__ import annotations

# Okabe and Ito's colours, which stay apart under the common colour blindnesses, darkened a little for white paper and
# lifted for dark paper; their yellow, unreadable on white, became brown. Lines differ by dash as well.
_LIGHT = ("#0068a8", "#cf5500", "#008f6a", "#b8588f", "#b98100", "#3a9bd6", "#646464", "#7a3b1d")
_DARK = ("#6fb9f0", "#ff9350", "#3ccfa6", "#ec9fca", "#f0bd4a", "#a5dcff", "#b8b8b8", "#d9a07f")


def _palette(colours: tuple[str, ...]) -> str:
    return "".join(f"--s{i}:{colour};" for i, colour in enumerate(colours))


_STROKES = "\n".join(f".s{i}{{--c:var(--s{i})}}" for i in range(len(_LIGHT)))

CSS = f"""
:root{{color-scheme:light dark;--paper:#fff;--ink:#1d2128;--soft:#5b6370;--rule:#dfe2e7;--faint:#f5f6f8;--warn:#a13a00;
--warnpaper:#fff4ec;--edge:#0002;{_palette(_LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{--paper:#14171c;--ink:#e4e7ec;--soft:#9aa3b0;--rule:#2d333c;--faint:#1a1e25;
--warn:#ffb083;--warnpaper:#2a1d14;--edge:#0009;{_palette(_DARK)}}}}}
{_STROKES}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%;overflow-wrap:anywhere}}
main{{max-width:1120px;margin:0 auto;padding:28px 16px 64px}}
h1{{font-size:26px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}}
h2{{font-size:19px;margin:44px 0 6px;padding-top:14px;border-top:1px solid var(--rule)}}
h3{{font-size:15px;margin:26px 0 6px}}
p,ul,ol{{margin:6px 0 12px;max-width:78ch}}
.soft,.note{{color:var(--soft)}} .note,.notes{{font-size:13px}}
.notes{{color:var(--soft);padding-left:24px;margin-top:6px}}
nav{{display:flex;flex-wrap:wrap;gap:2px 16px;margin:14px 0 0;font-size:14px}}
a{{color:var(--s0);text-decoration:none}} a:hover{{text-decoration:underline}}
.facts{{display:flex;flex-wrap:wrap;gap:10px 36px;margin:18px 0 0;padding:0;list-style:none;max-width:none}}
.facts b{{display:block;font-size:22px;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}}
.facts span{{color:var(--soft);font-size:13px}}
.alert{{border-left:3px solid var(--warn);background:var(--warnpaper);padding:8px 14px;margin:18px 0 0;font-size:14px}}
.alert ul{{margin:4px 0;padding-left:18px}}
.scroll{{overflow-x:auto;max-width:100%;margin:8px 0 4px;background:linear-gradient(90deg,var(--paper) 30%,transparent)
0/40px 100%,linear-gradient(270deg,var(--paper) 30%,transparent) 100%/40px 100%,
linear-gradient(90deg,var(--edge),transparent) 0/12px 100%,
linear-gradient(270deg,var(--edge),transparent) 100%/12px 100%;background-repeat:no-repeat;
background-attachment:local,local,scroll,scroll}}
.scroll:focus-visible{{outline:2px solid var(--s0)}}
table{{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}}
th,td{{padding:4px 10px;text-align:left;white-space:nowrap;vertical-align:baseline}}
th:first-child{{padding-left:0}}
thead th{{font-weight:500;color:var(--soft);font-size:13px;border-bottom:1px solid var(--rule);vertical-align:bottom}}
tbody th{{font-weight:500}}
tr.first th,tr.first td{{border-top:1px solid var(--rule)}} tbody tr:first-child>*{{border-top:0}}
tr.mean>*{{font-weight:600;border-top:1px solid var(--rule)}} tr.mean:not(.first)>*{{border-top:0}}
.num{{text-align:right}} .num+.pm{{padding-left:0;color:var(--soft)}} td.pm{{padding-left:0;color:var(--soft)}}
td.wide{{white-space:normal;min-width:20em}}
sup{{font-size:10px;color:var(--soft);line-height:0;padding-left:1px}}
.mark{{color:var(--warn);font-size:13px}} td.mark{{white-space:normal;min-width:23em}}
.pm span:first-child{{display:inline-block;min-width:3.5em;text-align:right}}
.over{{margin:0;color:var(--soft);font-size:13px}}
.name{{vertical-align:baseline}} .scores .name{{min-width:190px}} .scores .algo{{min-width:80px}}
td:has(>.whisker){{vertical-align:middle}}
.tag{{border:1px solid currentColor;border-radius:3px;padding:0 4px;font-size:11px;color:var(--warn);margin-left:6px;
font-weight:500}}
.legend{{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:13px;margin:8px 0}}
.swatch{{vertical-align:-1px;margin-right:6px}}
.multiples{{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:14px 12px;margin:8px 0 4px}}
.multiples>figure{{max-width:300px}}
figure{{margin:0;min-width:0}}
figcaption{{font-size:13px;line-height:1.3;margin:0 0 2px;overflow-wrap:anywhere}}
svg.panel{{display:block;width:100%;height:auto}}
svg{{overflow:visible}}
svg text{{fill:var(--soft);font-size:11px;font-family:inherit;font-variant-numeric:tabular-nums}}
svg .empty{{text-anchor:middle;font-style:italic}}
.field{{fill:var(--faint)}} .grid{{stroke:var(--rule);stroke-width:1}}
.guide{{stroke:var(--soft);stroke-width:1;stroke-dasharray:1 3}}
path.line{{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}}
path.seed{{fill:none;stroke:var(--c);stroke-width:1;opacity:.5;stroke-linejoin:round}} .many path.seed{{opacity:.22}}
.cross{{fill:none;stroke:var(--c);stroke-width:2}} .dot{{fill:var(--c)}}
.bar{{stroke:var(--c);stroke-width:7;opacity:.35}}
.whisker{{display:block}}
details{{margin:10px 0}} summary{{cursor:pointer;color:var(--s0)}}
code{{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}}
@media (max-width:520px){{main{{padding:18px 16px 40px}} h1{{font-size:22px}} h2{{margin-top:34px}}
.multiples{{grid-template-columns:1fr 1fr;gap:12px 10px}} svg.panel text{{font-size:14px}} figcaption{{font-size:12px}}
th,td{{padding:4px 7px}} .facts{{gap:8px 24px}}
.scores .name{{min-width:110px;max-width:130px;white-space:normal}} .scores .algo{{min-width:0}}
table{{font-size:13px}} td.wide{{min-width:10em}} th:has(+td.wide){{white-space:normal;min-width:8em}}}}
@media print{{.scroll{{overflow:visible}} details>*{{display:block}}}}
"""
