"""Progress for people, on stderr; stdout stays free for results.

notes    one thing said
bars     how far a stage is
wording  numbers as people read them
"""
