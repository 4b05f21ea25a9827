// RUN: tilewright-opt %s --verify-diagnostics -p 'convert-attn-to-tile{warps=4 rows=64}'

// One team cannot hold 512 columns of the output in its registers.
attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 16, 512], f16>, %p: !attn.ragged<[n, 16, 64], f16>,
  %ckv: !attn.paged<[pages, 16, 1, 512], f16, NHD>, %kpe: !attn.paged<[pages, 16, 1, 64], f16, NHD>,
  %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>) {
  // expected-error @+1 {{'attn.attend_latent' op expects at least 2 teams, with 64 to 256 columns of the output each, got 1 of 4 warps for 64 rows}}
  %out, %lse = attn.attend_latent %q, %p in %ckv, %kpe over %batch scale %scale variant @all
    : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16, 64], f16> in
      !attn.paged<[pages, 16, 1, 512], f16, NHD>, !attn.paged<[pages, 16, 1, 64], f16, NHD>
      over !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
  func.return %out, %lse : !attn.ragged<[n, 16, 512], f16>, !attn.ragged<[n, 16], f32>
}
