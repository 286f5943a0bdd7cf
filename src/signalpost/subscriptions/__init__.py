"""Administers subscriptions: who gets which events, where, and signed with what."""
