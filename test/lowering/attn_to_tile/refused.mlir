// RUN: tilewright-opt %s --split-input-file --verify-diagnostics -p convert-attn-to-tile

attn.variant @all

func.func @head_dim_72(
  %q: !attn.ragged<[n, 4, 72], bf16>, %k: !attn.paged<[pages, 16, 2, 72], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 72], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 72], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a head_dim that is a multiple of 16 up to 256 on sm_80, got 72}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 72], bf16>, !attn.paged<[pages, 16, 2, 72], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 72], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 72], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 72], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

attn.variant @all

func.func @head_dim_512(
  %q: !attn.ragged<[n, 4, 512], bf16>, %k: !attn.paged<[pages, 16, 2, 512], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 512], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 512], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a head_dim that is a multiple of 16 up to 256 on sm_80, got 512}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 512], bf16>, !attn.paged<[pages, 16, 2, 512], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 512], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 512], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 512], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

attn.variant @all

func.func @head_dim_8(
  %q: !attn.ragged<[n, 4, 8], bf16>, %k: !attn.paged<[pages, 16, 2, 8], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 8], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 8], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a head_dim that is a multiple of 16 up to 256 on sm_80, got 8}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 8], bf16>, !attn.paged<[pages, 16, 2, 8], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 8], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 8], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 8], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// A kernel is made for one head_dim, page size and number of heads.
attn.variant @all

func.func @symbolic_head_dim(
  %q: !attn.ragged<[n, 4, d], bf16>, %k: !attn.paged<[pages, 16, 2, d], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, d], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, d], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a constant head_dim, got d}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, d], bf16>, !attn.paged<[pages, 16, 2, d], bf16, NHD>,
      !attn.paged<[pages, 16, 2, d], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, d], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, d], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

attn.variant @all

func.func @symbolic_page_size(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 2*p, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 2*p, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects a constant page size, got 2*p}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 2*p, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 2*p, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// The function returns what the kernel writes, in that order.
attn.variant @all

func.func @results_in_another_order(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4, 64], bf16>) {
  // expected-error @+1 {{'attn.attend' op expects to be alone in its function, which returns its two results}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %out : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4, 64], bf16>
}

// -----

attn.variant @all

func.func @two_attends(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  // expected-error @+1 {{'attn.attend' op expects to be alone in its function, which returns its two results}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  %out2, %lse2 = attn.attend %q, %v, %k over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

attn.variant @all

func.func @more_than_attend(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %two = arith.constant 2.0 : f32
  %twice = arith.mulf %scale, %two : f32
  // expected-error @+1 {{'attn.attend' op expects to be alone in its function, which returns its two results}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %twice variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// An op inside another's region is not alone either.
attn.variant @all

func.func @attend_in_a_branch(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  %true = arith.constant true
  %o, %l = scf.if %true -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
    // expected-error @+1 {{'attn.attend' op expects to be alone in its function, which returns its two results}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
    scf.yield %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  } else {
    %out3, %lse3 = attn.attend %q, %v, %k over %batch scale %scale variant @all
      : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
        !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
      -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
    scf.yield %out3, %lse3 : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  }
  func.return %o, %l : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}

// -----

// Nor is one in a function of several blocks.
attn.variant @all

func.func @attend_in_two_blocks(
  %q: !attn.ragged<[n, 4, 64], bf16>, %k: !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
  %v: !attn.paged<[pages, 16, 2, 64], bf16, NHD>, %batch: !attn.batch<[b, nnz]>, %scale: f32
) -> (!attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>) {
  cf.br ^bb1
^bb1:
  // expected-error @+1 {{'attn.attend' op expects to be alone in its function, which returns its two results}}
  %out, %lse = attn.attend %q, %k, %v over %batch scale %scale variant @all
    : !attn.ragged<[n, 4, 64], bf16>, !attn.paged<[pages, 16, 2, 64], bf16, NHD>,
      !attn.paged<[pages, 16, 2, 64], bf16, NHD>, !attn.batch<[b, nnz]>
    -> !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
  func.return %out, %lse : !attn.ragged<[n, 4, 64], bf16>, !attn.ragged<[n, 4], f32>
}
