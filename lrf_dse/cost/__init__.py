"""What a choice costs, from its shape alone: exact counts, a closed-form latency, and the funnel that prunes the space.

counts    parameters, FLOPs and bytes of every contraction stage, as exact integers
latency   cycles: the closed form where a target has one, a roofline, the bound that executed instructions give
closed_form  what IREE's kernels of a candidate do, times a target's coefficients (matmuls, plain_kernel, packed_kernel;
          machine and prefetch for where the data come from)
prune     from the whole ordered space to a few candidates worth building, counting every step
"""
