"""How the embedded model is made: facts, wordings, tokenizer, training, measuring, probing."""
