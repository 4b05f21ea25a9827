// RUN: not tilewright-opt %s -p canonicalise 2>&1 | filecheck %s --check-prefix=PASS
// RUN: not tilewright-opt %s -p 'convert-attn-to-tile{traget="sm_80"}' 2>&1 | filecheck %s --check-prefix=OPTION
// RUN: not tilewright-opt %s -p 'convert-attn-to-tile{warps=many}' 2>&1 | filecheck %s --check-prefix=VALUE
// RUN: not tilewright-opt %s -p 'canonicalize{' 2>&1 | filecheck %s --check-prefix=SYNTAX
// RUN: not tilewright-opt %s -t 'ptx{arhc=sm_80}' 2>&1 | filecheck %s --check-prefix=TARGET

// PASS: tilewright-opt: error: there is no pass 'canonicalise'; there are canonicalize,
// OPTION: tilewright-opt: error: pass 'convert-attn-to-tile' has no option 'traget'; it has target,
// VALUE: tilewright-opt: error: option 'warps' of pass 'convert-attn-to-tile' expects int, got "many"
// SYNTAX: tilewright-opt: error: pipeline 'canonicalize{', column 14: expected argument name
// TARGET: tilewright-opt: error: target 'ptx' has no option 'arhc'; it has arch
func.func @empty() {
  func.return
}
