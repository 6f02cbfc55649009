"""Letters and replies: how their rows are read, chosen from and judged."""
