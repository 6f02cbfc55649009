"""The Arrow tables that stages meet at.

schemas        their columns, and the checks that hold for each
chunked_table  a table in parts that are read when they are needed
losses_file    losses that somebody else recorded, to a trajectories table
given          what somebody hands over in Python, as a table
"""
