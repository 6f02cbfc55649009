"""Selectors: tables in, selection out; no torch, no Ray.

methods   one selector a file; `s2l selectors` lists them
selector  what a selector is, and what it gives back
pool      the candidate pool that it is given
stored    the pool's order, and columns that stay in the table they came in
per       any selector inside each source
api       `s2l_ray.select`: from arrays and tables in Python
bare      from a table alone, without a run
run       from tables to a pool, and from a choice to the selection table

To add one, write a file in `methods/` with a class like theirs (CONTRIBUTING.md shows it).
"""
