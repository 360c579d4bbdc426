"""What a choice costs, from its shape alone: exact counts, a closed-form latency, and the funnel that prunes the space.

counts    parameters, FLOPs and bytes of every contraction stage, as exact integers
latency   a roofline in cycles, and the bound that executed instructions give
prune     from the whole ordered space to a few candidates worth building, counting every step
"""
