"""How a report looks: light and dark as the reader's system, and on paper. No colour says what no word says."""

from collections.abc import Mapping

LIGHT = {
    "page": "#ffffff",
    "ink": "#1b1f24",
    "soft": "#57606a",
    "line": "#d0d7de",
    "card": "#f6f8fa",
    "link": "#0a58ca",
    "good": "#116329",
    "bad": "#b42318",
    "warn": "#7a4b00",
}
DARK = {
    "page": "#14171c",
    "ink": "#e6e9ee",
    "soft": "#a6b0bd",
    "line": "#3a424d",
    "card": "#1e232a",
    "link": "#82b1ff",
    "good": "#5fd07f",
    "bad": "#ff8f85",
    "warn": "#f0b95b",
}


def _variables(colours: Mapping[str, str]) -> str:
    return ":root{" + "".join(f"--{name}:{value};" for name, value in colours.items()) + "}"


COLOURS = (
    f"{_variables(LIGHT)}:root{{color-scheme:light dark}}"
    f"@media (prefers-color-scheme:dark){{{_variables(DARK)}}}"
    f"@media print{{{_variables(LIGHT)}}}"
)
PICTURES = """
svg text{fill:var(--ink);font-size:12.5px;font-family:system-ui,sans-serif}
svg .small{font-size:11px;fill:var(--soft)}
.topology .name{font-weight:600}
.topology rect{fill:var(--page);stroke:var(--line);stroke-width:1.2}
.topology .hypervisor>rect{fill:none;stroke:var(--soft)}
.topology .hypervisor>text,.topology .node>text{fill:var(--soft);font-size:11.5px}
.topology .node>rect{fill:var(--card)}
.topology .machine circle{fill:var(--warn)}
.topology .machine.well circle{fill:var(--good)}
.topology .machine.gone circle{fill:none;stroke:var(--bad);stroke-width:2}
.topology .machine.gone rect{stroke-dasharray:4 3}
.topology .volume rect{stroke:var(--link)}
.topology .wire{fill:none;stroke:var(--soft);stroke-width:1.4}
.topology .way{fill:none;stroke:var(--link);stroke-width:1.6;stroke-dasharray:5 4}
.timeline .tick{stroke:var(--line)}
.timeline .done rect{fill:var(--link)}
.timeline .failed rect{fill:var(--bad);stroke:var(--ink)}
.timeline .cut rect{fill:none;stroke:var(--warn);stroke-width:2;stroke-dasharray:3 2}
"""
PAGE = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main,header,nav{max-width:1080px;margin:0 auto;padding:0 16px}
h1{font-size:1.7rem;margin:1.2rem 0 .2rem}
h2{font-size:1.25rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.2rem 0 .4rem;overflow-wrap:anywhere}
p,li{overflow-wrap:anywhere}.soft{color:var(--soft)}
a{color:var(--link)}:focus-visible{outline:3px solid var(--link);outline-offset:2px}
nav ul{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;padding:0}
.skip{position:absolute;left:-999px}.skip:focus{left:8px;top:8px;background:var(--page);padding:6px}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:6px;background:var(--page)}
.wide svg{display:block}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:6px 10px;border-bottom:1px solid var(--line)}
th{background:var(--card);white-space:nowrap}td{overflow-wrap:break-word;min-width:6em}
.wide table{min-width:700px}td ul{margin:0;padding-left:1.1em}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.good,.bad,.warn{font-weight:600}
details{border:1px solid var(--line);border-radius:6px;padding:6px 12px;margin:8px 0}summary{cursor:pointer}
code{font:13px ui-monospace,monospace;background:var(--card);padding:1px 4px;border-radius:4px;overflow-wrap:anywhere}
footer{color:var(--soft);padding:24px 16px;max-width:1080px;margin:0 auto}
@media print{nav,.skip{display:none}details{border:0;padding:0}details>*{display:block}
.wide{overflow:visible;border:0}svg{max-width:100%;height:auto}h2,h3{break-after:avoid}tr,svg{break-inside:avoid}}
"""
