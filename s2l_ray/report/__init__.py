"""The report: from the records and artifacts of runs and sweeps to one self-contained HTML page.

arms, study -- what is compared, read from the records, and where its artifacts lie
scores      -- each configuration's metric over examples and seeds, and its differences
pool, texts -- a bounded sample of the pool's numbers, and the texts of the few rows that are shown
answer, curve, clusters, chosen, browse, health, cost, reproduce -- the sections' content
figures     -- tables and plots as plain data
page, build -- the page from all of these

No torch, no Ray: a report can be made anywhere that can read the storage.
"""
