// RUN: tilewright-opt %s --split-input-file --verify-diagnostics -p 'convert-attn-to-tile{rows=128 kv_tile=64 warps=16}'

attn.variant @all

func.func @teams_without_room(
  %q: !attn.ragged<[n, 2, 16], bf16>, %k: !attn.paged<[pages, 16, 2, 16], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 16], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 2, 16], bf16>, !attn.ragged<[n, 2], f32>) {
  // expected-error @+1 {{'attn.attend' op expects keys of at least 8192 bytes in shared memory for the 2 teams that exchange results through them, got 6144: choose more stages}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 2, 16], bf16>, !attn.paged<[pages, 16, 2, 16], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 16], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 2, 16], bf16>, !attn.ragged<[n, 2], f32>
  func.return %out, %lse : !attn.ragged<[n, 2, 16], bf16>, !attn.ragged<[n, 2], f32>
}
