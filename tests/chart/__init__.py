"""The chart: against the code it starts (always), and rendered by real Helm (where it is installed)."""
