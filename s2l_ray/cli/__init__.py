"""The command line: `s2l`.

main    the commands, put together
work    the commands that do work
select  `s2l select`, by a recipe or from anybody's table
inspect `s2l inspect`, rows as the model will see them
views   the commands that only look
extras  which extra of the package a command lacks
output  progress and errors to stderr, tables and one JSON object to stdout, exit codes
"""
