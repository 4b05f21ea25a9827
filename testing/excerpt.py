"""A finding as text for a test's report: the finding, the lines of PTX and of source."""

from collections.abc import Sequence
from pathlib import Path

from ..runtime.simulator import Finding

_AROUND = 2  # lines above and below


def describe(finding: Finding, ptx: str) -> str:
    """
    Returns a finding with the lines that it names, several lines.

    Source lines are shown where the file that `.loc` names is there to be read.
    """
    parts = [str(finding)]
    lines = ptx.splitlines()
    marked = [finding.line] if finding.line else []
    if finding.other is not None and finding.other.line:
        marked.append(finding.other.line)
    if marked:
        parts += ["  PTX:", *excerpt(lines, marked)]
    sources = [finding.source, finding.other.source if finding.other else ""]
    for file, numbers in _by_file(sources).items():
        try:
            text = Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        parts += [f"  {file}:", *excerpt(text.splitlines(), numbers)]
    return "\n".join(parts)


def excerpt(lines: Sequence[str], marked: Sequence[int]) -> list[str]:
    """Returns the lines around some lines, counted from 1; `>` marks these, `...` is a gap."""
    shown: list[str] = []
    near = {
        number
        for line in marked
        for number in range(line - _AROUND, line + _AROUND + 1)
        if 1 <= number <= len(lines)
    }
    last = 0
    for number in sorted(near):
        if last and number > last + 1:
            shown.append("        ...")
        mark = ">" if number in marked else " "
        shown.append(f"  {mark} {number:5d} | {lines[number - 1].expandtabs(4).rstrip()}".rstrip())
        last = number
    return shown


def _by_file(places: Sequence[str]) -> dict[str, list[int]]:
    """Returns the lines that `file:line:column` name, by file."""
    found: dict[str, list[int]] = {}
    for place in places:
        parts = place.rsplit(":", 2)
        if len(parts) == 3 and parts[1].isdigit():
            found.setdefault(parts[0], []).append(int(parts[1]))
    return found
