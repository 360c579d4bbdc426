"""What a choice costs, from its shape alone: exact counts, and the funnel that prunes the space.

counts    parameters, FLOPs and bytes of every contraction stage, as exact integers
latency   the bound that executed instructions give
prune     from the whole ordered space to a few candidates worth building, counting every step
"""
