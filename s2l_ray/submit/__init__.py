"""Sending a recipe to a Ray cluster as a job.

submit   the submission, and following it to its end
packing  the folder that a job works in
"""
