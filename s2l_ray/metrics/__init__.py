"""What an evaluation measures and how sure it is: texts and arrays in, numbers out; no torch, no Ray.

measures   one metric a file
metric     what a metric is
answers    the final answer in a response, and a response judged against a reference answer
equality   answers normalised, and whether two are the same
numerals   one number (separators, fractions, powers of ten, units) as an exact fraction
intervals  95 % confidence: bootstrap for means, differences and group averages, Wilson for proportions
differences  the difference of two models on the same examples
seeds      what several seeds and the same examples say together
"""
