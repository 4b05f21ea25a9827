from collections.abc import Sequence

from .Test import Result, Test

kPdbgRegex: str

def parseIntegratedTestScript(test: Test) -> list[object] | Result: ...
def getTempPaths(test: Test) -> tuple[str, str]: ...
def getDefaultSubstitutions(test: Test, tmpDir: str, tmpBase: str) -> list[tuple[str, str]]: ...
def applySubstitutions(
    script: Sequence[object],
    substitutions: Sequence[tuple[str, str]],
    conditions: dict[str, bool] = ...,
    recursion_limit: int | None = ...,
) -> list[str]: ...
