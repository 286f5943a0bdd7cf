"""Puts work in: from the drafts of a request to stored events that owe their deliveries."""
