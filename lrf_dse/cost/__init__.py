"""What a choice costs, from its shape alone: exact counts, and the funnel that prunes the space.

counts    parameters, FLOPs and bytes of every contraction stage, as exact integers
latency   the bound that executed instructions give
curves    counts of whole blocks of shapes at once
looked_at which shapes are looked at: all, or a sample; search: those near a front; tuples: different ranks for cuts
funnel    the steps by name, and whether they are safe
near      what stands near the front; narrowing: the settings of all steps
prune     from the whole space to a few candidates worth building, counting every step
"""
