"""The style of the page that draws programs."""

STYLE = """
:root { --line: #d8dbe2; --dim: #687083; --ink: #1d2330; }
* { box-sizing: border-box; }
body { margin: 0; font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: #f6f7f9; }
header { padding: .6em 1.2em; background: #1d2330; color: #fff; }
header h1 { margin: 0; font-size: 17px; }
main { display: flex; gap: 1em; padding: 1em; align-items: flex-start; overflow-x: auto; }
section { flex: 1 1 0; min-width: 28em; }
section h2 { margin: 0 0 .5em; font-size: 14px; }
div { margin: .3em 0 .3em .6em; padding: .25em .6em; border: 1px solid var(--line);
  border-left: 4px solid #98a2b5; border-radius: 5px; background: #fff;
  font: 12px/1.5 ui-monospace, monospace; }
section > div { margin-left: 0; }
p { margin: 0; color: var(--dim); white-space: pre-wrap; }
b { float: right; padding: 0 .6em; border-radius: 1em; color: #fff; font-weight: 600; }
.program { border-left-color: #1d2330; }
.buffer { border-left-color: #8f63c4; background: #f7f3fc; }
.block { border-left-color: #e0702a; background: #fff8f2; }
.parallel { border-left-color: #2f8f5b; } .parallel > span > b { background: #2f8f5b; }
.vectorized { border-left-color: #1795a8; } .vectorized > span > b { background: #1795a8; }
.unrolled { border-left-color: #7d8597; } .unrolled > span > b { background: #7d8597; }
.thread { border-left-color: #3867c8; } .thread > span > b { background: #3867c8; }
.guard { border-left-style: dashed; }
.call { border-left-color: #c0334e; background: #fdf3f5; }
"""
