"""
Peak rates of GPUs: Tflop/s (Top/s of integers) by type, dense; memory in GB/s, as "memory".

From NVIDIA's publications, at boost clock:
- a100: "A100 80GB" data sheet, SXM (memory 2,039 GB/s), and table 1 of "NVIDIA A100 Tensor Core GPU
  Architecture" (78 and 39 for f16 and bf16 without tensor cores).
- h100: "H100" data sheet, SXM (3.35 TB/s), and table 2 of "NVIDIA H100 Tensor Core GPU
  Architecture", whose figures the data sheet rounds: 66.9 as 67, 989.4 as 989.
- h100-pcie: the same; the data sheet gives rates with sparsity, which are twice these, and 2 TB/s.
- h200: "H200" data sheet, SXM: the rates of h100, memory 4.8 TB/s.
- rtx4090: appendix A of "NVIDIA Ada GPU Architecture", products with f32 sums.
"""

_HOPPER_SXM = {
    "f64": 33.5,
    "f32": 66.9,
    "f16": 133.8,
    "bf16": 133.8,
    "tensor f64": 66.9,
    "tensor tf32": 494.7,
    "tensor f16": 989.4,
    "tensor bf16": 989.4,
    "tensor e4m3": 1978.9,
    "tensor e5m2": 1978.9,
    "tensor s8": 1978.9,
    "tensor u8": 1978.9,
}
GPUS: dict[str, dict[str, float]] = {
    "a100": {
        "memory": 2039,
        "f64": 9.7,
        "f32": 19.5,
        "f16": 78,
        "bf16": 39,
        "tensor f64": 19.5,
        "tensor tf32": 156,
        "tensor f16": 312,
        "tensor bf16": 312,
        "tensor s8": 624,
        "tensor u8": 624,
    },
    "h100": {"memory": 3350, **_HOPPER_SXM},
    "h100-pcie": {
        "memory": 2000,
        "f64": 25.6,
        "f32": 51.2,
        "f16": 102.4,
        "bf16": 102.4,
        "tensor f64": 51.2,
        "tensor tf32": 378,
        "tensor f16": 756,
        "tensor bf16": 756,
        "tensor e4m3": 1513,
        "tensor e5m2": 1513,
        "tensor s8": 1513,
        "tensor u8": 1513,
    },
    "h200": {"memory": 4800, **_HOPPER_SXM},
    "rtx4090": {
        "memory": 1008,
        "f64": 1.29,
        "f32": 82.6,
        "f16": 82.6,
        "bf16": 82.6,
        "tensor tf32": 82.6,
        "tensor f16": 165.2,
        "tensor bf16": 165.2,
        "tensor e4m3": 330.3,
        "tensor e5m2": 330.3,
        "tensor s8": 660.6,
        "tensor u8": 660.6,
    },
}
