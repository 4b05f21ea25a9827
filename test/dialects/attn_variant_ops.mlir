// RUN: ROUNDTRIP
// RUN: GENERIC_ROUNDTRIP

// Parameters stand behind the name: tensors with extents, scalars without.
// CHECK-LABEL: attn.variant @parameters(slopes: f32[32], cap: f32, ids: i32[batch, n + 1]) score {
// CHECK: attn.param "slopes"[%{{.*}}] : f32
// CHECK: attn.param "cap" : f32
// CHECK: attn.param "ids"[%{{.*}}, %{{.*}}] : i32
attn.variant @parameters(slopes: f32[32], cap: f32, ids: i32[batch, n + 1]) score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %slope = attn.param "slopes"[%h] : f32
  %cap = attn.param "cap" : f32
  %id = attn.param "ids"[%b, %kv_idx] : i32
  %changed = arith.mulf %slope, %cap : f32
  attn.yield %changed : f32
}

// A transform reads its row: other elements, and sums over them.
// CHECK-LABEL: attn.variant @normed query {
// CHECK: attn.row_sum {
// CHECK-NEXT: ^{{.*}}(%{{.*}}: i32):
// CHECK: attn.element %{{.*}} : f32
// CHECK: attn.yield %{{.*}} : f32
// CHECK-NEXT: } : f32
attn.variant @normed query {
^bb0(%x: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  %sum = attn.row_sum {
  ^bb0(%index: i32):
    %element = attn.element %index : f32
    attn.yield %element : f32
  } : f32
  %normed = arith.divf %x, %sum : f32
  attn.yield %normed : f32
}

// Every region, in their order.
// CHECK-LABEL: attn.variant @all query {
// CHECK: } key {
// CHECK: } value {
// CHECK: attn.page %{{.*}} : i32
// CHECK: } score {
// CHECK: } mask {
// CHECK: } state {
// CHECK: attn.query_row %{{.*}} : i32
// CHECK: attn.yield %{{.*}}, %{{.*}} : f32, f32
// CHECK: } output {
attn.variant @all query {
^bb0(%x: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  attn.yield %x : f32
} key {
^bb0(%x: f32, %b: i32, %h: i32, %kv_idx: i32, %d: i32):
  attn.yield %x : f32
} value {
^bb0(%x: f32, %b: i32, %h: i32, %kv_idx: i32, %d: i32):
  %page = attn.page %kv_idx : i32
  attn.yield %x : f32
} score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  attn.yield %score : f32
} mask {
^bb0(%b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %always = arith.constant true
  attn.yield %always : i1
} state {
^bb0(%m: f32, %total: f32, %b: i32, %h: i32, %q_idx: i32):
  %row = attn.query_row %q_idx : i32
  attn.yield %m, %total : f32, f32
} output {
^bb0(%out: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  attn.yield %out : f32
}

// Scores can be weights as they are.
// CHECK-LABEL: attn.variant @weights no_softmax{{$}}
attn.variant @weights no_softmax

// A parameter can stand alone.
// CHECK-LABEL: func.func @alone
// CHECK-SAME: attributes {param = #attn.param<bias: f32[8, m]>}
func.func @alone() attributes {param = #attn.param<bias: f32[8, m]>} {
  func.return
}
