"""Notify: tells people by e-mail and text message, each thing once."""
