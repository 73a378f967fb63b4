"""The on-premises gateway: keeps what modalities send and forwards it to Central server."""
