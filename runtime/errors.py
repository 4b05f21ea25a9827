"""The errors that the runtime answers with: one base, one line of text each."""


class TilewrightError(ValueError):
    """The base of every error that the runtime raises on purpose; its text is one line."""


class ContractError(TilewrightError):
    """
    A kernel contract is malformed.

    `path` is the JSON path of the field that is wrong, such as `params[2].dtype`.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"kernel contract: {path}: {message}")
        self.path = path


class BundleError(TilewrightError):
    """A bundle on disk is missing, truncated, damaged, or of another format version."""


class ArgumentError(TilewrightError):
    """
    An argument of a call is refused: its name, what was expected, what was got.

    Nothing is launched after it.
    """

    def __init__(self, name: str, expected: str, got: str) -> None:
        super().__init__(f"argument '{name}': expected {expected}, got {got}")
        self.name = name
        self.expected = expected
        self.got = got


class DeviceError(TilewrightError):
    """A device is not available, or can't do what is asked of it."""


class DeviceUnavailable(DeviceError):
    """There is no such device here: no driver, no bindings to it, or no GPU."""


class TargetError(DeviceError):
    """A kernel is made for a target that the device does not run."""


class CudaError(DeviceError):
    """
    A call of the CUDA driver fails.

    `function` is the driver's function, `code` the name of the CUresult.
    """

    def __init__(self, function: str, code: str, message: str) -> None:
        super().__init__(f"{function}: {code}: {message}")
        self.function = function
        self.code = code


class AssemblerError(DeviceError):
    """The PTX assembler, or the driver's own, refuses a kernel or warns of a lost property."""


class KernelFault(DeviceError):
    """
    A kernel does something illegal while it runs on the simulator.

    `finding` is the simulator's own report.
    """

    def __init__(self, message: str, finding: object = None) -> None:
        super().__init__(message)
        self.finding = finding
