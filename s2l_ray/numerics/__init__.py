"""Numerical parts of selection: numpy and scikit-learn, no torch, no Ray.

kmeans      k-means fitted on a bounded sample, with streamed assignment
allocation  how a budget is shared out over groups
distances   between unit-length rows
neighbours  nearest neighbours and outliers
kcenter     greedy k-center
density     kernel sums, exact and hashed, and sampling by their inverse
facility    lazy greedy for facility location
"""
