class GlobItem: ...

class Command:
    args: list[str | GlobItem]
    redirects: list[tuple[tuple[str] | tuple[str, int], str]]

class Pipeline:
    commands: list[Command]
    negate: bool
    pipe_err: bool

class Seq:
    lhs: Pipeline | Seq
    op: str
    rhs: Pipeline
