"""What an evaluation measures and how sure it is: strings and arrays in, numbers out; no torch, no Ray.

answers       -- find the final answer in a response; judge a response against a reference answer
equality      -- normalise answers and decide whether two are the same
numerals      -- read one number (separators, fractions, powers of ten, units) as an exact fraction
text_overlap  -- ROUGE-L and corpus BLEU, and BLEU's interval from per-sentence statistics
intervals     -- 95 % confidence: bootstrap for means, differences and group averages, Wilson for proportions
"""
