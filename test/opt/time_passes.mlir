// RUN: tilewright-opt %s -p canonicalize --time-passes 2>&1 | filecheck %s

// CHECK: CPU ms    wall ms   share  runs  step
// CHECK: 1  (parse)
// CHECK: 2  (verify)
// CHECK: 1  canonicalize
// CHECK: 1  (print)
// CHECK: 100.0%        total
func.func @empty() {
  func.return
}
