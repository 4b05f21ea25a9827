// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// An expression is printed in its canonical form, whatever way it was written.
// CHECK: {extent = #sym.expr<(n + 15) floordiv 16>}
builtin.module attributes {extent = #sym.expr<n ceildiv 16>} {
}

// A constant is an expression.
// CHECK: {extent = #sym.expr<128>}
builtin.module attributes {extent = #sym.expr<2 * 64>} {
}

// Ranges are printed symbol by symbol, each with its multiple behind it.
// CHECK: {ranges = #sym.ranges<n in [16, 8192], n mod 16 == 0, m in [0, ...]>}
builtin.module attributes {ranges = #sym.ranges<n mod 16 == 0, m in [0, ...], n in [16, 8192]>} {
}

// A bound may be an expression over symbols that come before.
// CHECK: {ranges = #sym.ranges<n in [1, ...], tile in [0, (n + 63) floordiv 64 - 1]>}
builtin.module attributes {ranges = #sym.ranges<n in [1, ...], tile in [0, n ceildiv 64 - 1]>} {
}

// No range at all is the empty list.
// CHECK: {ranges = #sym.ranges<>}
builtin.module attributes {ranges = #sym.ranges<>} {
}
