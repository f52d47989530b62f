"""The atlas: every program of a tree space with its rank correlations, by algebra, and what can be read off it.

A program of a tree space is two branches and a join, and there are few branches: 3,360 in the space of Auto-Prox, which
has 16.9 million different programs. What a layer's score needs of a branch (a Scalar, or a matrix's mean, sums of
columns and rows, inner products with other matrices) is computed once; a program is then a few additions.
"""
