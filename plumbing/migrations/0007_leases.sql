-- Tasks that one process at a time does for all copies of a service: who does it, and until when at the latest.
create table leases (
    task text primary key,
    holder uuid not null,
    ends_at timestamptz not null
);
