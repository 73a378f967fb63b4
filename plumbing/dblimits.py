"""How long PostgreSQL may take, and what each connection of ours asks of it."""

ACQUIRE_S = 2.0
"""For a free connection, or for a new one to come up."""
COMMAND_S = 2.5
"""For one statement. With ACQUIRE_S it stays below the 5 s of R8."""

SERVER_SETTINGS = {
    "jit": "off",  # compiling costs more than our statements
    "client_connection_check_interval": "500ms",  # a statement nobody waits for any more ends soon
    "idle_in_transaction_session_timeout": "30s",  # locks of a client that vanished are freed
}
