"""Parses function bodies: registers, labels, scopes and instructions."""

import re

from ..errors import PTXError
from .cursor import literal
from .declarations import Declarations
from .syntax import (
    Address,
    Function,
    Guard,
    Immediate,
    Instruction,
    Label,
    Name,
    Negated,
    Operand,
    Pair,
    Register,
    Special,
    SymbolAddress,
    Variable,
    Vector,
)

SPECIAL = re.compile(
    r"%(n?tid|n?ctaid|cluster_n?ctaid|n?clusterid)\.[xyz]"
    r"|%(laneid|n?warpid|n?smid|gridid|clock|clock_hi|clock64|globaltimer|globaltimer_lo"
    r"|globaltimer_hi|lanemask_(eq|le|lt|ge|gt)|dynamic_smem_size|total_smem_size"
    r"|aggr_smem_size|reserved_smem_offset_(begin|end|cap|[01])|is_explicit_cluster|cluster_n?ctarank|current_graph_exec|envreg\d+|pm\d+(_64)?)"
)
_RANGE = re.compile(r"(.*?)(\d+)", re.DOTALL)


_DEEPEST = 256  # scopes inside each other; names are looked for in all of them


class Scope:
    """The registers, variables and labels of one `{ }`; `start` is where its body begins."""

    def __init__(self, outer: "Scope | None", start: int = 0) -> None:
        self.outer = outer
        self.start = start
        self.labels: set[str] = set()
        self.registers: dict[str, Register] = {}
        self.ranges: dict[str, tuple[int, str]] = {}  # prefix: (count, type)
        self.variables: dict[str, Variable] = {}


def rename_labels(
    function: Function, body: list[Instruction | Label], scope: Scope, suffix: str
) -> None:
    """
    Adds a suffix to the labels of an inner scope and to what names them there.

    Outside of their scope they can't be seen, so two scopes may have labels of the same name.
    """
    names = {name: name + suffix for name in scope.labels}
    for index in range(scope.start, len(body)):
        item = body[index]
        if isinstance(item, Label):
            body[index] = Label(names.get(item.name, item.name), item.line)
        elif item.opcode.startswith(("bra", "brx")) and item.operands:
            *first, last = item.operands
            if isinstance(last, Name) and last.text in names:
                item.operands = (*first, Name(names[last.text]))
    for name in names.keys() & function.branch_targets.keys():
        targets = function.branch_targets.pop(name)
        function.branch_targets[names[name]] = tuple(names.get(x, x) for x in targets)


class BodyParser:
    """Parses the body of one function; it reads through the module parser's cursor."""

    def __init__(self, cursor: Declarations, function: Function) -> None:
        self.cursor = cursor
        self.function = function
        self.body: list[Instruction | Label] = []
        self.scope = Scope(None)
        for variable in (*function.params, *function.returns):
            if variable.space == "reg":
                register = self._declare(variable.name, variable.type, self.scope)
                function.formals[variable] = register
            else:
                self.scope.variables[variable.name] = variable
        self._words: dict[str, Operand] = {}
        self._closed = 0  # scopes with labels that were closed

    def parse(self) -> None:
        """Parses `{ ... }` into the function."""
        cursor = self.cursor
        cursor.location = None
        cursor.expect("{")
        depth = 1
        while depth:
            token = cursor.peek()
            if token == "{":
                cursor.next()
                self._enter()
                depth += 1
                if depth > _DEEPEST:
                    raise cursor.error(f"more than {_DEEPEST} blocks inside each other", back=1)
            elif token == "}":
                cursor.next()
                self._leave()
                depth -= 1
            else:
                self._statement(token)
        self.function.body = self.body

    def _enter(self) -> None:
        """Opens a scope."""
        self.scope = Scope(self.scope, len(self.body))
        self._words.clear()

    def _leave(self) -> None:
        """Closes a scope."""
        if self.scope.outer is not None and self.scope.labels:
            self._closed += 1
            rename_labels(self.function, self.body, self.scope, f"@{self._closed}")
        self.scope = self.scope.outer or Scope(None)
        self._words.clear()

    def _statement(self, token: str) -> None:
        """Parses one statement of the body."""
        cursor = self.cursor
        if token[:1] != ".":
            if cursor.tokens[cursor.index + 1] == ":":
                self._label()
            elif token == ";":
                cursor.next()
            else:
                self._instruction()
            return
        if token == ".reg":
            self._registers()
        elif token in (".local", ".shared", ".global", ".const", ".param"):
            if token in (".global", ".const"):
                raise cursor.error(f"{token} variables inside of a function are not covered")
            for variable in cursor.variables():
                self.scope.variables[variable.name] = variable
                self.function.variables.append(variable)
            self._words.clear()
        elif token == ".loc":
            cursor.loc()
        elif token == ".file":
            cursor.file()
        elif token == ".pragma":
            cursor.next()
            cursor.string_list()
        else:
            raise cursor.expected("an instruction or a directive of a function body")

    def _label(self) -> None:
        """Parses `name:` and what may belong to it alone."""
        cursor = self.cursor
        line = cursor.line()
        name = cursor.identifier("a label")
        cursor.expect(":")
        if name in self.scope.labels:
            raise cursor.error(f"label {name} is defined twice", back=2)
        self.scope.labels.add(name)
        if cursor.peek() == ".branchtargets":
            cursor.next()
            self.function.branch_targets[name] = cursor.names()
            cursor.expect(";")
        elif cursor.peek() in (".callprototype", ".calltargets"):
            cursor.skip_statement()
        else:
            self.body.append(Label(name, line))

    def _registers(self) -> None:
        """Parses `.reg .b32 %r<10>, %x;`."""
        cursor = self.cursor
        cursor.next()
        if cursor.peek() in (".v2", ".v4"):
            raise cursor.error("vector registers are not covered")
        type = cursor.type_name()
        while True:
            name = cursor.identifier("the name of a register")
            if cursor.peek() == "<":
                cursor.next()
                count = cursor.integer()
                cursor.expect(">")
                self.scope.ranges[name] = (count, type)
            elif name in self.scope.registers or name in self.scope.variables:
                raise cursor.error(f"{name} is declared twice in one scope", back=1)
            else:
                self._declare(name, type, self.scope)
            if cursor.peek() != ",":
                break
            cursor.next()
        cursor.expect(";")
        self._words.clear()

    def _declare(self, name: str, type: str, scope: Scope) -> Register:
        """Adds a register to a scope and to the function."""
        register = Register(name, type, len(self.function.registers))
        self.function.registers.append(register)
        scope.registers[name] = register
        return register

    def _instruction(self) -> None:
        """Parses `[@p] opcode operands;`."""
        cursor = self.cursor
        tokens = cursor.tokens
        start = cursor.positions[cursor.index]
        guard: Guard | None = None
        if tokens[cursor.index] == "@":
            guard = self._guard()
        opcode = cursor.identifier("an instruction")
        operands: list[Operand] = []
        if tokens[cursor.index] != ";":
            calls = opcode.startswith("call")
            operands.append(self._operand(calls))
            while tokens[cursor.index] == ",":
                cursor.index += 1
                operands.append(self._operand(calls))
        if tokens[cursor.index] != ";":
            raise cursor.expected(f"',' or ';' after an operand of {opcode}")
        end = cursor.positions[cursor.index] + 1
        cursor.index += 1
        line, column = cursor.source.place(start)
        self.body.append(
            Instruction(opcode, tuple(operands), guard, line, column, cursor.location, (start, end))
        )

    def _guard(self) -> Guard:
        """Parses `@p` or `@!p`."""
        cursor = self.cursor
        cursor.next()
        negated = cursor.peek() == "!"
        if negated:
            cursor.next()
        return Guard(self._predicate(), negated)

    def _predicate(self) -> Register:
        """Parses the name of a predicate register."""
        cursor = self.cursor
        operand = self._word(cursor.identifier("a predicate register"))
        if not isinstance(operand, Register) or operand.type != "pred":
            raise cursor.expected("a predicate register", back=1)
        return operand

    def _operand(self, calls: bool) -> Operand:
        """Parses one operand; `calls` admits lists in parentheses."""
        cursor = self.cursor
        token = cursor.tokens[cursor.index]
        operand = self._words.get(token)
        if operand is not None:
            cursor.index += 1
        elif token == "[":
            return self._address()
        elif token in ("{", "(") and (calls or token == "{"):
            return self._list("}" if token == "{" else ")", calls)
        elif token == "!":
            cursor.index += 1
            return Negated(self._predicate())
        elif token[:1].isalpha() or token[:1] in ("%", "_", "$"):
            cursor.index += 1
            operand = self._word(token)
        else:
            return self._number()
        following = cursor.tokens[cursor.index]
        if following == "|":
            cursor.index += 1
            return Pair(operand, self._operand(False))
        if following in ("+", "-") and isinstance(operand, SymbolAddress):
            return SymbolAddress(operand.variable, cursor.integer())
        return operand

    def _number(self) -> Immediate:
        """Parses a constant; a sign in front of a float is allowed."""
        cursor = self.cursor
        token = cursor.peek()
        negative = token == "-"
        digits = cursor.tokens[cursor.index + 1] if negative else token
        number = literal(digits)
        if number is not None and number.kind != "int":
            cursor.index += 1 + negative
            sign = (1 << (31 if number.kind == "f32" else 63)) if negative else 0
            return Immediate(number.kind, number.value ^ sign)
        if token == "!":
            raise cursor.expected("an operand")
        try:
            return Immediate("int", cursor.integer())
        except PTXError as failure:
            raise cursor.expected("an operand") from failure

    def _list(self, end: str, calls: bool) -> Vector:
        """Parses `{a, b}` or `(a, b)`."""
        cursor = self.cursor
        cursor.index += 1
        items: list[Operand] = []
        while cursor.peek() != end:
            items.append(self._operand(calls))
            if cursor.peek() != end:
                cursor.expect(",")
        cursor.index += 1
        return Vector(tuple(items))

    def _address(self) -> Address:
        """Parses `[base+offset]` or `[base, coordinates]`."""
        cursor = self.cursor
        cursor.index += 1
        token = cursor.peek()
        base: Register | Variable | Immediate
        if token[:1].isdigit() or token == "-":
            base = Immediate("int", cursor.integer())
        else:
            word = self._word(cursor.identifier("an address"))
            if isinstance(word, SymbolAddress):
                base = word.variable
            elif isinstance(word, Register):
                base = word
            else:
                raise cursor.error(f"{token} is not a register or variable", back=1)
        if cursor.peek() == "-":  # ptxas takes `[base+-4]` alone
            raise cursor.error("expects '+' before the offset of an address, got '-'")
        offset = cursor.integer() if cursor.peek() == "+" else 0
        coordinates: list[Operand] = []
        while cursor.peek() == ",":
            cursor.index += 1
            coordinates.append(self._operand(False))
        cursor.expect("]")
        return Address(base, offset, tuple(coordinates))

    def _word(self, name: str) -> Operand:
        """Resolves a name in the open scopes; labels and functions stay names."""
        known = self._words.get(name)
        if known is None:
            known = self._resolve(name)
            self._words[name] = known
        return known

    def _resolve(self, name: str) -> Operand:
        """Looks a name up; see `_word`."""
        scope: Scope | None = self.scope
        split = _RANGE.fullmatch(name)
        while scope is not None:
            if name in scope.registers:
                return scope.registers[name]
            if split is not None:
                count, type = scope.ranges.get(split[1], (0, ""))
                number = split[2]
                if len(number) < 10 and int(number) < count and (number == "0" or number[0] != "0"):
                    return self._declare(name, type, scope)
            if name in scope.variables:
                return SymbolAddress(scope.variables[name])
            scope = scope.outer
        variable = self.cursor.module.variables.get(name)
        if variable is not None:
            return SymbolAddress(variable)
        if name == "WARP_SZ":
            return Immediate("int", 32)
        if name[0] == "%":
            if SPECIAL.fullmatch(name):
                return Special(name)
            raise self.cursor.error(f"register {name} is not declared", back=1)
        return Name(name)
