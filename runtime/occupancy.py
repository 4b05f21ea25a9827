"""
How many CTAs of a kernel an SM holds at a time, and so how many a persistent kernel has.

Source: CUDA programming guide, technical specifications by compute capability.
"""

from .contract import KernelContract

# Bytes of shared memory that the CTAs of an SM have together, and that each takes on top of its
# own.
SM_SHARED_BYTES = {
    "sm_80": 164 * 1024,
    "sm_86": 100 * 1024,
    "sm_89": 100 * 1024,
    "sm_90": 228 * 1024,
    "sm_90a": 228 * 1024,
}
RESERVED_BYTES = 1024
SM_REGISTERS = 64 * 1024
# A thread has at most 255 registers, which warps take in units of 8.
MOST_REGISTERS = 256
# Those of sm_86 and sm_89, the fewest.
SM_THREADS = 1536


def resident_ctas(contract: KernelContract) -> int:
    """
    Returns how many CTAs of a kernel an SM holds at a time, at least 1.

    A kernel whose registers are not known is taken to need all that a thread can have.
    """
    x, y, z = contract.block
    threads = -(-x * y * z // 32) * 32
    registers = MOST_REGISTERS
    if contract.resources is not None:
        registers = min(-(-max(contract.resources.registers, 1) // 8) * 8, MOST_REGISTERS)
    shared = contract.dynamic_shared_bytes + contract.static_shared_bytes + RESERVED_BYTES
    capacity = SM_SHARED_BYTES.get(contract.target, min(SM_SHARED_BYTES.values()))
    room = (capacity // shared, SM_REGISTERS // (threads * registers), SM_THREADS // threads)
    return max(min(room), 1)
