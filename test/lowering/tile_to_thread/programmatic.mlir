// RUN: tilewright-opt %s -p 'convert-tile-to-thread{programmatic=true}' | filecheck %s
// RUN: tilewright-opt %s -p 'convert-tile-to-thread{programmatic=true}' -t 'ptx{arch=sm_90}' | filecheck %s --check-prefix PTX
// RUN: not tilewright-opt %s -p 'convert-tile-to-thread{programmatic=true}' -t 'ptx{arch=sm_80}' 2>&1 | filecheck %s --check-prefix OLD

// A kernel waits for those in front of it before anything else, and lets the next one come.
// CHECK: "gpu.func"
// CHECK: nvvm.griddepcontrol wait
// CHECK-NEXT: nvvm.griddepcontrol launch_dependents
// PTX: griddepcontrol.wait;
// PTX-NEXT: griddepcontrol.launch_dependents;
// OLD: error: 'nvvm.griddepcontrol' op needs sm_90, got sm_80
tile.kernel @nothing(%f: f32) warps 1 grid [1, 1, 1] {
  tile.return
}
