"""How selections of one pool differ.

comparison  what they share, against chance, and what each is made of
tables      the same for people
"""
