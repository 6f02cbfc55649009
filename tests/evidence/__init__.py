"""Does selecting help, and when not? One command that makes the whole table: python -m tests.evidence.run --help."""
