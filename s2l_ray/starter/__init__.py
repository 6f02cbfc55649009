"""A recipe for somebody's own file, without a question: what `s2l select FILE`, `s2l run FILE` and `s2l init FILE` use.

No download.

look        the files, their shape, any row of them
vocabulary  a tokenizer learned from them
survey      what a sample of the rows is like
findings    that in words
recipe      the recipe
inspect     rows as the model will see them
columns     what each column of a row became
show        all this on a terminal
page        and as one HTML file
"""
