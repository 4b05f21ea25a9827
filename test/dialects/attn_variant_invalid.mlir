// RUN: VERIFY_DIAGNOSTICS

// expected-error @+1 {{expected a parameter of f32 or i32, got f16}}
attn.variant @half(x: f16)

// -----

// expected-error @+1 {{axis 1 has extent 0, expected at least 1}}
attn.variant @empty(x: f32[2, 0])

// -----

// expected-error @+1 {{'attn.variant' op expects parameters of different names, got 'x' twice}}
attn.variant @twice(x: f32, x: f32[3])

// -----

// expected-error @+1 {{'attn.variant' op expects a parameter named 'y', which it does not declare}}
attn.variant @undeclared(x: f32) score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %y = attn.param "y" : f32
  attn.yield %y : f32
}

// -----

// expected-error @+1 {{'attn.variant' op expects 'x' to be read as i32, got f32}}
attn.variant @another_type(x: i32) score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %x = attn.param "x" : f32
  attn.yield %x : f32
}

// -----

// expected-error @+1 {{'attn.variant' op expects 2 indices of 'x', got 1}}
attn.variant @another_rank(x: f32[4, 4]) score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %x = attn.param "x"[%h] : f32
  attn.yield %x : f32
}

// -----

// A score has no row of its own.
// expected-error @+1 {{'attn.variant' op expects no attn.element in its score region}}
attn.variant @score_of_elements score {
^bb0(%score: f32, %b: i32, %h: i32, %q_idx: i32, %kv_idx: i32):
  %x = attn.element %h : f32
  attn.yield %x : f32
}

// -----

// An element of the result is not known beside another.
// expected-error @+1 {{'attn.variant' op expects no attn.row_sum in its output region}}
attn.variant @output_of_sums output {
^bb0(%out: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  %sum = attn.row_sum {
  ^bb0(%index: i32):
    attn.yield %out : f32
  } : f32
  attn.yield %sum : f32
}

// -----

// A query lies in no page.
// expected-error @+1 {{'attn.variant' op expects no attn.page in its query region}}
attn.variant @query_in_a_page query {
^bb0(%x: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  %page = attn.page %q_idx : i32
  attn.yield %x : f32
}

// -----

// expected-error @+1 {{'attn.variant' op expects no attn.query_row in its key region}}
attn.variant @key_of_a_row key {
^bb0(%x: f32, %b: i32, %h: i32, %kv_idx: i32, %d: i32):
  %row = attn.query_row %kv_idx : i32
  attn.yield %x : f32
}

// -----

// expected-error @+1 {{'attn.variant' op expects its state region to yield f32, f32, got f32}}
attn.variant @half_a_state state {
^bb0(%m: f32, %total: f32, %b: i32, %h: i32, %q_idx: i32):
  attn.yield %m : f32
}

// -----

// expected-error @+1 {{'attn.variant' op expects no state region without a softmax, which has no state}}
attn.variant @state_of_nothing no_softmax state {
^bb0(%m: f32, %total: f32, %b: i32, %h: i32, %q_idx: i32):
  attn.yield %m, %total : f32, f32
}

// -----

attn.variant @sum_in_a_sum query {
^bb0(%x: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  // expected-error @+1 {{'attn.row_sum' op expects no sum within its term}}
  %sum = attn.row_sum {
  ^bb0(%i: i32):
    %inner = attn.row_sum {
    ^bb1(%j: i32):
      attn.yield %x : f32
    } : f32
    attn.yield %inner : f32
  } : f32
  attn.yield %sum : f32
}

// -----

attn.variant @sum_of_conditions query {
^bb0(%x: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  // expected-error @+1 {{'attn.row_sum' op expects its region to yield f32}}
  %sum = attn.row_sum {
  ^bb0(%i: i32):
    attn.yield %i : i32
  } : f32
  attn.yield %sum : f32
}

// -----

attn.variant @sum_of_halves query {
^bb0(%x: f32, %b: i32, %h: i32, %q_idx: i32, %d: i32):
  %sum = attn.row_sum {
  ^bb0(%i: i32):
    attn.yield %x : f32
  // expected-error @+1 {{expected a sum of type f32, got f16}}
  } : f16
  attn.yield %sum : f32
}
