// RUN: tilewright-opt %s --verify-diagnostics -p 'convert-attn-to-tile{target=sm_80 warps=8 rows=64 kv_tile=32 stages=3}'

// 64 queries and 3 tiles of 32 keys of 1152 bytes each, 4 KiB of probabilities padded to 5, and 2 KiB more.
attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 64, 512], f16>, %p: !attn.ragged<[n, 64, 64], f16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], f16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 64], f16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 64, 512], f16>, !attn.ragged<[n, 64], f32>) {
  // expected-error @+1 {{'attn.attend_latent' op needs 191488 bytes of shared memory, sm_80 has 166912: choose fewer stages or a smaller key tile}}
  %out, %lse = attn.attend_latent %q, %p in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 64, 512], f16>, !attn.ragged<[n, 64, 64], f16> in
      !attn.paged<[pages, 16, 1, 512], f16, NHD>, !attn.paged<[pages, 16, 1, 64], f16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 64, 512], f16>, !attn.ragged<[n, 64], f32>
  func.return %out, %lse : !attn.ragged<[n, 64, 512], f16>, !attn.ragged<[n, 64], f32>
}
