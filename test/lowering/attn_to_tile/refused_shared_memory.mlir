// RUN: tilewright-opt %s --verify-diagnostics -p 'convert-attn-to-tile{target=sm_86 stages=4}'
// RUN: tilewright-opt %s -p 'convert-attn-to-tile{target=sm_80 stages=4}' | filecheck %s

// 64 queries and 4 stages of 32 keys and 32 values, of 512 bytes each, fit on sm_80 and not on sm_86.
// CHECK: tile.kernel @too_large
attn.variant @all

func.func @too_large(
  %q: !attn.ragged<[n, 4, 256], bf16>, %k: !attn.paged<[pages, 16, 2, 256], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 256], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 256], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op needs 163840 bytes of shared memory, sm_86 has 101376: choose fewer stages or a smaller key tile}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 256], bf16>, !attn.paged<[pages, 16, 2, 256], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 256], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 256], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 256], bf16>, !attn.ragged<[n, 4], f32>
}
