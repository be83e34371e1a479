"""How good captions are: scores, the tokenizer they count words with, and baselines."""
