"""Parses a PTX module (PTX ISA 7.0 to 9.x): directives; statements.py parses function bodies."""

from .declarations import Declarations
from .lexer import Source, tokenise
from .statements import BodyParser
from .syntax import Function, Module, Variable

# Directives with arguments up to the end of the statement or line that mean nothing here.
_LINKING = frozenset({".visible", ".extern", ".weak", ".common"})
_PERFORMANCE = frozenset(
    {
        ".maxntid",
        ".reqntid",
        ".minnctapersm",
        ".maxnreg",
        ".maxnctapersm",
        ".reqnctapercluster",
        ".maxclusterrank",
        ".explicitcluster",
        ".blocksareclusters",
        ".noreturn",
        ".pragma",
        ".abi_preserve",
        ".abi_preserve_control",
    }
)


class ModuleParser(Declarations):
    """Parses the statements at module level."""

    def parse(self) -> Module:
        """Returns the module; raises PTXError at the first thing that is not PTX."""
        while self.peek():
            self._statement()
        self._relocate()
        return self.module

    def _statement(self) -> None:
        """Parses one statement at module level."""
        token = self.peek()
        if token == ".version":
            self.next()
            self.module.version = self._version()
        elif token == ".target":
            self.next()
            self.module.target = self.names()
        elif token == ".address_size":
            self.next()
            self.module.address_size = self.integer()
            if self.module.address_size != 64:
                raise self.error("only .address_size 64 is covered", back=1)
        elif token == ".file":
            self.file()
        elif token == ".loc":
            self.loc()
        elif token == ".section":
            self.section()
        elif token == ".pragma":
            self.skip_statement()
        elif token == ";":
            self.next()
        elif token == ".alias":
            raise self.error(".alias is not covered")
        else:
            self._linked()

    def _version(self) -> tuple[int, int]:
        """Parses the number after .version."""
        text = self.next()
        major, dot, minor = text.partition(".")
        short = len(text) <= 9
        if not (dot and short and major.isdecimal() and minor.isdecimal()):
            raise self.error("expected a version such as 8.0 after .version", back=1)
        return int(major), int(minor)

    def _linked(self) -> None:
        """Parses a function or a variable with its linking directive."""
        linking = ""
        while self.peek() in _LINKING:
            linking = self.next()
        if self.peek() in (".entry", ".func"):
            self._function()
        elif self.peek() in (".global", ".const", ".shared"):
            for variable in self.variables(linking == ".extern"):
                known = self.module.variables.get(variable.name)
                if known is not None and known.size:
                    raise self.error(f"{variable.name} is declared twice")
                self.module.variables[variable.name] = variable
        else:
            raise self.error("expected a directive such as .entry, .func, .global or .version")

    def _function(self) -> None:
        """Parses an entry or function, its prototype and its body."""
        entry = self.next() == ".entry"
        line = self.line()
        returns: list[Variable] = []
        if self.peek() == ".attribute":
            self.skip_parentheses()
        if not entry and self.peek() == "(":
            returns = self._params("")
        name = self.identifier("the name of a function")
        function = Function(name, entry, line, returns=returns)
        if self.peek() == "(":
            function.params = self._params(name)
        if entry and any(variable.space == "reg" for variable in function.params):
            raise self.error("the parameters of an entry are .param, not .reg", back=1)
        while self.peek() in _PERFORMANCE:
            self._performance(function)
        if self.peek() == ";":
            self.next()
            self.module.functions.setdefault(name, function)
            return
        known = self.module.functions.get(name)
        if known is not None and known.body is not None:
            raise self.error(f"function {name} is defined twice")
        self.module.functions[name] = function
        BodyParser(self, function).parse()

    def _params(self, function: str) -> list[Variable]:
        """Parses `( .param ..., .reg ... )`."""
        self.expect("(")
        params: list[Variable] = []
        while self.peek() != ")":
            params.append(self.parameter())
            if self.peek() != ")":
                self.expect(",")
        self.next()
        return params

    def _performance(self, function: Function) -> None:
        """Parses a performance-tuning directive."""
        token = self.next()
        if token == ".pragma":
            self.string_list()
            return
        numbers: list[int] = []
        while self.peek()[:1].isdigit():
            numbers.append(self.integer())
            if self.peek() != ",":
                break
            self.next()
        if token == ".blocksareclusters":
            raise self.error("a grid counted in clusters is not covered", back=1)
        if token == ".explicitcluster":
            function.explicit_cluster = True
        if token in (".minnctapersm", ".maxnreg"):
            if len(numbers) != 1:
                raise self.error(f"expected a number after {token}")
            if token == ".maxnreg":
                function.maxnreg = numbers[0]
            else:
                function.minnctapersm = numbers[0]
        if token in (".maxntid", ".reqntid", ".reqnctapercluster"):
            if not 1 <= len(numbers) <= 3:
                raise self.error(f"expected 1 to 3 numbers after {token}")
            x, y, z = (*numbers, 1, 1)[:3]
            if min(x, y, z) < 1:
                raise self.error(f"expected numbers above 0 after {token}", back=1)
            if token == ".maxntid":
                function.maxntid = (x, y, z)
            elif token == ".reqntid":
                function.reqntid = (x, y, z)
            else:
                function.cluster = (x, y, z)

    def _relocate(self) -> None:
        """Checks that every symbol in an initialiser names something."""
        functions = self.module.functions
        for variable in self.module.variables.values():
            for _, name, _ in variable.symbols:
                if name in functions:
                    raise self.error(f"{variable.name} holds a function address: not covered")
                named = self.module.variables.get(name)
                if named is None:
                    raise self.error(f"the initialiser of {variable.name} names unknown {name}")
                if named.space not in ("global", "const"):
                    raise self.error(f"{variable.name} holds an address in .{named.space} memory")


def parse(text: str) -> Module:
    """
    Parses a PTX text.

    Raises PTXError with line and column where the text is not PTX of version 7.0 or later, and
    for what the simulator doesn't cover at module level (aliases, 32-bit addresses, textures).
    """
    source = Source(text)
    tokens, positions = tokenise(source)
    parser = ModuleParser(source, tokens, positions, Module(text))
    if not tokens[0]:
        raise parser.error("this text holds no PTX")
    if tokens[0] != ".version":
        raise parser.error("expected .version first")
    try:
        return parser.parse()
    except RecursionError:
        raise parser.error("nested too deeply") from None
