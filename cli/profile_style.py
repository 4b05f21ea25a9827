"""Style and script of a profile's page."""

STYLE = """
:root { --line: #d8dbe2; --dim: #687083; --ink: #1d2330; --pick: #fff3c4; }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: #f6f7f9; }
header { position: sticky; top: 0; z-index: 3; display: flex; gap: 1.2em; align-items: baseline;
  padding: .6em 1.2em; background: #1d2330; color: #fff; height: 46px; }
header h1 { margin: 0; font-size: 17px; }
header span { color: #c3cad8; font-size: 13px; }
main { padding: 1em 1.2em; }
.top { display: flex; flex-wrap: wrap; gap: 1em; margin-bottom: 1em; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .8em 1em; }
.card h2 { margin: 0 0 .5em; font-size: 14px; }
.card p { margin: .2em 0; color: var(--dim); font-size: 12px; }
dl { display: grid; grid-template-columns: auto auto; gap: .1em 1.2em; margin: 0; font-size: 13px; }
dt { color: var(--dim); } dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
dl.mix { grid-template-columns: auto auto auto; }
.bar { display: block; height: .7em; margin-top: .4em; background: #4c78c8; border-radius: 2px; }
.panes { display: grid; gap: 1em; grid-template-columns: minmax(0, 1fr); }
.panes.two { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
.pane { background: #fff; border: 1px solid var(--line); border-radius: 6px; overflow: auto;
  height: calc(100vh - 66px); position: sticky; top: 56px; }
section h2 { margin: 0 0 .4em; font-size: 14px; }
table { border-collapse: collapse; font: 12px/1.5 ui-monospace, monospace; width: 100%; }
td, th { padding: 0 .6em; text-align: right; white-space: pre; }
th { position: sticky; top: 0; z-index: 1; background: #eef0f4; cursor: pointer; height: 2.2em;
  border-bottom: 1px solid var(--line); font-weight: 600; user-select: none; }
th:hover { background: #dfe4ee; }
th.by::after { content: " \\25be"; }
td:nth-child(2), th:nth-child(2) { text-align: left; tab-size: 4; min-width: 20em; max-width: 31em;
  overflow: hidden; text-overflow: ellipsis; }
td:first-child { color: var(--dim); }
td:nth-child(n+3) { font-variant-numeric: tabular-nums; }
tr.idle td { color: #9aa1b0; }
tr[data-source] { cursor: pointer; }
tr:hover td { box-shadow: inset 0 -1px 0 #aab4c8; }
tr.picked td { background-color: var(--pick) !important; }
"""

# Panes begin at the first line that has run. A click on a head sorts by that column, another one
# restores the order of the text. A click on a line marks what belongs to its source line.
SCRIPT = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const table = head.closest("table"), body = table.tBodies[0], at = head.cellIndex;
  const was = head.classList.contains("by"), text = at < 2;
  for (const other of table.querySelectorAll("th")) other.classList.remove("by");
  const value = row => was || text
    ? -Number(row.cells[0].textContent) : Number(row.cells[at].textContent) || 0;
  if (!was && !text) head.classList.add("by");
  body.append(...[...body.rows].sort((a, b) => value(b) - value(a)));
  if (!was && !text) head.closest(".pane").scrollTop = 0;
};
for (const pane of document.querySelectorAll(".pane")) {
  const first = pane.querySelector("tbody tr:not(.idle)");
  if (first) pane.scrollTop = first.offsetTop - 3 * first.offsetHeight;
}
const rows = [...document.querySelectorAll("tr[data-source]")];
for (const row of rows) row.onclick = () => {
  const on = !row.classList.contains("picked"), seen = new Set([row.closest(".pane")]);
  for (const other of rows) {
    const same = on && other.dataset.source == row.dataset.source;
    other.classList.toggle("picked", same);
    const pane = other.closest(".pane");
    if (same && !seen.has(pane)) {
      seen.add(pane);
      pane.scrollTop = other.offsetTop - pane.clientHeight / 3;
    }
  }
};
"""
