"""Tensor-train mathematics of one layer: which shapes exist, how to decompose, how well, and how to apply.

    shapes        aligned TT shapes and plain low rank, and what ranks a shape may have
    counting      the size of a layer's whole space, exactly; orders: all ordered modes as arrays, block by block
    rank_tuples   the cheapest ranks of a shape for an error, exactly
    svd           the Decomposer protocol and its registry
    numpy_svd     TT-SVD in numpy; t3f_svd: by the t3f library
    moment        second moments of a layer's inputs, and the metric they make
    data_aware    whitened SVD, and TT-ALS with a ridge chosen on held-out rows
    als           the sweeps of TT-ALS; als_core: the least-squares problem of one core
    grid          what fp16, int8 and int4 can store; feedback: rounding a matrix so that its outputs change least
    few_bits      TT cores on grids of few bits, fitted to what rounding made of each other
    spectra       the singular spectra that bound the error of every rank, without decomposing
    error_bounds  the same for columns of shapes; output_spectra: what is lost of the outputs, predicted
    contraction   the numpy oracle: cores to matrix, cores applied to rows

This room is pure: it sees arrays and sizes, never a model, a file, a clock or a process. NaN and infinity are
refused by whoever reads the weights.
"""
