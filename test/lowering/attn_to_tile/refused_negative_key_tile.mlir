// RUN: tilewright-opt %s --verify-diagnostics -p 'convert-attn-to-tile{kv_tile=-16}'

attn.variant @all

func.func @with_negative_key_tile(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a key tile of a positive multiple of 16, at least 2 stages and 1 to 16 warps, got -16, 2 and 4}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}
