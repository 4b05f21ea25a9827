class LitConfig:
    isWindows: bool
    noExecute: bool
    params: dict[str, str]
