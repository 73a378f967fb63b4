"""What reporting hears: nothing. Whatever it has to know, it asks access while it serves."""
