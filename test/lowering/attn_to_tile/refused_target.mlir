// RUN: tilewright-opt %s --verify-diagnostics -p 'convert-attn-to-tile{target=sm_75}'

// mma.sync of bf16 and cp.async begin with sm_80.
attn.variant @all

func.func @old_target(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a target among sm_80, sm_86, sm_89, sm_90, sm_90a, got sm_75}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}
