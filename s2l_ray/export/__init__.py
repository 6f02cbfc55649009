"""A finished selection, handed on.

selection  which selection of which run is meant, and its rows as conversations
trainer    what a trainer is: rows of its layout, a training config, the command that starts it
messages   turns as chat messages, what several layouts share
trainers   one trainer a file
writing    the folder that one trainer reads
card       the card that says how a subset was chosen
"""
