"""Sharing: studies shown to outside physicians for a limited time, with the patient's consent."""
