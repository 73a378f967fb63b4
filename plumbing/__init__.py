"""The pipes everyone shares: settings, database, bus, gRPC, logs, and the embedded servers.

A part is one file: `config` reads settings, `db`, `audit`, `outbox` and `bus` keep and tell, `rpc` serves
and calls with `tls`, `tokens`, `callers` and `status`, `cache` holds what may be lost, `log` and `telemetry`
show, `runtime` runs a process, `embedded` and `pki` make everything real on a laptop.
"""
