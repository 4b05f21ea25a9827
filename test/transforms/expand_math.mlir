// RUN: tilewright-opt %s -p expand-math | filecheck %s

// The reciprocal square root is a square root and a division.
// CHECK-LABEL: @rsqrt
func.func @rsqrt(%x: f32) -> f32 {
  // CHECK-NEXT: %[[ROOT:.*]] = math.sqrt %x : f32
  // CHECK-NEXT: %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
  // CHECK-NEXT: %[[R:.*]] = arith.divf %[[ONE]], %[[ROOT]] : f32
  // CHECK-NEXT: return %[[R]]
  %r = math.rsqrt %x : f32
  func.return %r : f32
}

// What may be approximate is left to the instruction.
// CHECK-LABEL: @approximate
func.func @approximate(%x: f32) -> f32 {
  // CHECK-NEXT: math.rsqrt %x fastmath<afn> : f32
  %r = math.rsqrt %x fastmath<afn> : f32
  func.return %r : f32
}

// 16-bit floats are computed in f32.
// CHECK-LABEL: @half
func.func @half(%x: f16) -> f16 {
  // CHECK-NEXT: %[[WIDE:.*]] = arith.extf %x : f16 to f32
  // CHECK-NEXT: math.sqrt %[[WIDE]] : f32
  // CHECK: arith.truncf {{.*}} : f32 to f16
  %r = math.rsqrt %x : f16
  func.return %r : f16
}

// A vector is expanded in a loop over its elements, which is unrolled later.
// CHECK-LABEL: @vector
func.func @vector(%x: vector<4xf32>) -> vector<4xf32> {
  // CHECK: %[[V:.*]] = scf.for %[[I:.*]] = {{.*}} iter_args(%[[ACC:.*]] = %x) -> (vector<4xf32>) {
  // CHECK-NEXT: %[[E:.*]] = vector.extract %x[%[[I]]] : f32 from vector<4xf32>
  // CHECK-NEXT: math.sqrt %[[E]] : f32
  // CHECK: vector.insert {{.*}}, %[[ACC]] [%[[I]]]
  // CHECK: {tilewright.unroll}
  // CHECK-NEXT: return %[[V]]
  %r = math.rsqrt %x : vector<4xf32>
  func.return %r : vector<4xf32>
}

// CHECK-LABEL: @double
func.func @double(%x: f64) -> f64 {
  // CHECK-NEXT: %[[ROOT:.*]] = math.sqrt %x : f64
  // CHECK-NEXT: %[[ONE:.*]] = arith.constant 1.000000e+00 : f64
  // CHECK-NEXT: arith.divf %[[ONE]], %[[ROOT]] : f64
  %r = math.rsqrt %x : f64
  func.return %r : f64
}

// CHECK-LABEL: @double_without_expansion
func.func @double_without_expansion(%x: f64) -> f64 {
  // CHECK-NEXT: math.tanh %x : f64
  %r = math.tanh %x : f64
  func.return %r : f64
}
