"""This machine alone, without Ray: the same work, in processes that are forked from one that has loaded its libraries.

machine    what a run has: cores, checks, processes
process    one worker, from its start to its end
worker     what runs in it
units      units of work on a pool of them
training   a supervised fine-tuning by a group of them
host       what a training worker has around it
"""
