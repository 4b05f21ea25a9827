// RUN: VERIFY_DIAGNOSTICS

// expected-error @+1 {{expected an integer, a symbol or '(', got '>'}}
builtin.module attributes {extent = #sym.expr<>} {
}

// -----

// expected-error @+1 {{expected a positive divisor, got 0}}
builtin.module attributes {extent = #sym.expr<n floordiv 0>} {
}

// -----

// A symbol is an identifier without dots.
// expected-error @+1 {{expected an integer, a symbol or '(', got 'n.x'}}
builtin.module attributes {extent = #sym.expr<n.x>} {
}

// -----

// expected-error @+1 {{expected an integer of at most 40 digits}}
builtin.module attributes {extent = #sym.expr<99999999999999999999999999999999999999999>} {
}

// -----

// expected-error @+1 {{expected a range that is not empty, got n in [2, 1]}}
builtin.module attributes {ranges = #sym.ranges<n in [2, 1]>} {
}

// -----

// expected-error @+1 {{expected the bound 'm' of 'n' to name symbols that come before, got 'm'}}
builtin.module attributes {ranges = #sym.ranges<n in [0, m]>} {
}
