"""Puts work in: drafts become stored events that owe their deliveries, and what ended goes again.

* `publish` accepts events, `event_types` and `catalogue` say which there are.
* `replay` delivers stored events again, in the background.
* `repair` lets single deliveries go again, and ends what nobody wants any more.
"""
