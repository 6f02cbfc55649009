"""Models on one machine: torch and transformers, no Ray, so the same code is timed and tested anywhere.

models        load a causal language model or its tokenizer, and name its content
examples      units of rows to tokenised examples
tokenization  conversations to token ids and the mask of supervised tokens
batching      token-bounded batches of examples of like length, and their padding
cross_entropy the head without its logits, tile by tile
losses        mean negative log-likelihood of each example
throughput    how fast this machine multiplies, and what scoring needs
probes        examples in another form: without the prompt, its key parts masked, in a question to a judge
key_parts     which parts of an instruction these are
embedding     mean-pooled last hidden states
generation    greedy answers
memory        how this process takes memory and cores from the system
sampling      the order in which training sees its examples
schedule      steps and trajectory points of a training
training      supervised fine-tuning with transformers.Trainer
"""
