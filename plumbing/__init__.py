"""The pipes everyone shares: settings, database, bus, gRPC and logs.

A part is one file: `config` reads settings, `db`, `audit`, `outbox` and `bus` keep and tell, `rpc` serves
and calls with `tls`, `tokens`, `callers` and `status`, `cache` holds what may be lost, `log` and `telemetry`
show, `service` builds what every service has of them, `runtime` runs a process. `components` says what
processes there are.
"""
