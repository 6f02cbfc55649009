"""What runs found.

results  a finished run's metrics side by side, differences and time
status   the state of a run, read from its storage alone
"""
