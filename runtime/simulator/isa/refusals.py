"""Why an instruction is not covered, where more can be said than that it is not."""

import re

# What an opcode looks like, and the reason; the first row that fits counts.
_REASONS = (
    (r"(tex|tld4|txq|suld|sust|sured|suq)\b", "textures and surfaces are not covered"),
    (r"istypep\b", "textures and surfaces are not covered"),
    (r"(mma|wgmma\.mma_async)\.sp\b", "sparse matrices are not covered"),
    (r"mma\.sync\.aligned\.m8n8k4\..*f16", "the f16 products of sm_70 are not covered"),
    (r"(tcgen05|clusterlaunchcontrol|st\.bulk|red\.async\.mmio)\b", "needs sm_100 or later"),
    (r"(add|sub|mul|fma)\..*\bf32x2$", "needs sm_100 or later"),
    (r"(add|sub|fma)\..*\bf32\.b?f16$", "needs sm_100 or later"),
    (r"redux\.sync\.(min|max)\b.*\.f32$", "needs sm_100 or later"),
    (r"cvt\..*\b(e2m1|e2m3|e3m2|ue8m0)x", "needs sm_100 or later"),
    (r"cvt\.(rn|rz)\..*satfinite.*\.tf32\.f32$", "needs sm_100 or later"),
    (r"(min|max)(\.\w+)*(?<!xorsign)\.abs\.f32$", "needs sm_100 or later"),
    (r"cp\.(reduce\.)?async\.bulk\..*\bim2col", "im2col mode is not covered, tile mode is"),
    (r"cp\.async\.bulk\..*\btile::(gather|scatter)4", "needs sm_100 or later"),
    (r"cp\.async\.bulk\..*\.cp_mask$", "needs sm_100 or later"),
    (r"wgmma\.mma_async\..*\.b1\.", "products of bits are not covered"),
    (r"cvt\.rs\b", "needs sm_100 or later"),
    (r"(ld|st)\..*\bv8\.", "needs sm_100 or later"),
    (r"mma\..*\bkind::", "needs sm_120"),
    (r"(ldmatrix|stmatrix)\..*(\bm16n|\bb8$|\bb8x16)", "needs sm_100 or later"),
    (r"fma\.rn\.oob\b", "operands out of bounds (.oob) are not covered"),
    (r"(shfl|vote)\.(?!sync)", "needs .sync on sm_70 and later"),
    (r"(vmad|vadd|vsub|vabsdiff|vmin|vmax|vavrg|vset|vshl|vshr)\d?\b", "video is not covered"),
    (r"(alloca|stacksave|stackrestore)\b", "the stack of a thread is not covered"),
    (r"multimem\b", "memory of several devices is not covered"),
    (r"brkpt\b", "breakpoints are not covered"),
)
_PATTERNS = tuple((re.compile(pattern), reason) for pattern, reason in _REASONS)


def reason(opcode: str) -> str:
    """Returns why an opcode is not covered as the end of a sentence, or the empty string."""
    for pattern, text in _PATTERNS:
        if pattern.match(opcode):
            return f": {text}"
    return ""
