"""Tensor-train mathematics of one layer: which shapes exist, how to decompose, how well, and how to apply.

    shapes        which TT shapes a layer has (counted or enumerated)
    svd           the Decomposer protocol and its registry; TT-SVD in numpy
    t3f_svd       TT-SVD by the t3f library
    spectra       the singular spectra that bound the error of every rank, without decomposing
    contraction   the numpy oracle: cores to matrix, cores applied to rows

This room is pure: it sees arrays and sizes, never a model, a file, a clock or a process. NaN and infinity are
refused by whoever reads the weights.
"""
