// RUN: tilewright-opt %s -p 'convert-attn-to-tile{work=tile_lists}' | filecheck %s --check-prefix=LISTS
// RUN: tilewright-opt %s -p 'convert-attn-to-tile{work=cascade}' | filecheck %s --check-prefix=CASCADE

// An entry of a list is a tile of keys; those that need the mask come before the others.
// LISTS-LABEL: tile.kernel @attend
// LISTS-SAME: %kv_tiles
// LISTS: tile.load %kv_tiles
// LISTS: tile.copy_async %k_pages, %v_pages
// LISTS: scf.for
// LISTS: scf.for

// Rows are those of a table; each item arrives at the merges of all requests that have rows in it.
// CASCADE-LABEL: tile.kernel @attend
// CASCADE-SAME: %query_rows
// CASCADE-SAME: %parts
// CASCADE: tile.load %query_rows
// CASCADE: scf.for
// CASCADE: tile.arrive
// CASCADE: tile.load %parts
attn.variant @all

func.func @attend(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}
