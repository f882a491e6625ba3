"""Tasks (facts, questions, answers), where they come from, and how they become padded tensors."""
