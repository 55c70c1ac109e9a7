"""Training: from labelled prompts to the file of weights. For developers and operators; nothing that serves imports it."""
