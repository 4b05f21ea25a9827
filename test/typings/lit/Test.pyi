class ResultCode: ...

PASS: ResultCode
FAIL: ResultCode
UNRESOLVED: ResultCode
UNSUPPORTED: ResultCode

class Result:
    code: ResultCode
    output: str
    def __init__(
        self, code: ResultCode, output: str = ..., elapsed: float | None = ...
    ) -> None: ...

class TestingConfig:
    environment: dict[str, str]
    available_features: set[str]
    pipefail: bool
    recursiveExpansionLimit: int | None
    unsupported: bool

class Test:
    config: TestingConfig
    def getExecPath(self) -> str: ...
    def getSourcePath(self) -> str: ...
