"""Numerical parts of selection: numpy and scikit-learn, no torch, no Ray.

kmeans      k-means fitted on a bounded sample, with streamed assignment
allocation  how a budget is shared out over groups
"""
