"""
Tensor programs as loop nests: built in Python, scheduled step by step, run on every device.

```python
b = nest.Builder("matmul", "n in [1, 8192]")
A, B = b.buffer("A", ["n", 512], "f16"), b.buffer("B", [512, 256], "f16")
C = b.buffer("C", ["n", 256], "f32", output=True)
i, j, k = b.axes(i="n", j=256, k=512)
C[i, j] += A[i, k] * B[k, j]
matmul = b.build()
```
"""
