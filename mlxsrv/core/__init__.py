"""Plain frozen data and the exception tree; imports nothing of ours and nothing heavy."""
