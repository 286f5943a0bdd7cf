"""The schema's history, one file a step. What is released here never changes."""
