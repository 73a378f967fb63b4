"""Tells people: mails, one for each intent, and one-time codes by text message."""
