"""Does selecting help, and when not? One command that makes the whole table: python tests/evidence/run.py --help."""
