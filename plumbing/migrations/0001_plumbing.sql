-- What every service's database holds beside its own tables.

-- Facts to be said. A row is written in the transaction of its cause; the relay publishes it, and it is
-- kept for 7 days after that, because the stream may be lost and has to be filled again.
create table outbox (
    id           bigint      generated always as identity primary key,
    event_id     uuid        not null,
    subject      text        not null,
    payload      jsonb       not null,
    traceparent  text,
    said_at      timestamptz not null,
    published_at timestamptz
);
create index outbox_unpublished on outbox (id) where published_at is null;
create index outbox_published on outbox (published_at) where published_at is not null;

-- Facts heard and applied: what is delivered twice is applied once.
create table heard (
    consumer text        not null,
    event_id uuid        not null,
    heard_at timestamptz not null,
    primary key (consumer, event_id)
);
create index heard_by_age on heard (heard_at);

-- Facts that could not be applied. Without died_at it is still being tried.
create table dead_letters (
    consumer        text        not null,
    event_id        uuid        not null,
    subject         text        not null,
    payload         text        not null,
    error           text        not null,
    sentence        text        not null,
    failures        integer     not null,
    first_failed_at timestamptz not null,
    last_failed_at  timestamptz not null,
    died_at         timestamptz,
    primary key (consumer, event_id)
);

-- Who did what to what, written in the transaction of the effect.
create table audit_rows (
    id      bigint      generated always as identity primary key,
    at      timestamptz not null,
    actor   text        not null,
    action  text        not null,
    object  text        not null,
    outcome text        not null check (outcome in ('done', 'refused')),
    detail  jsonb       not null
);

-- The stream as the relay last saw it: another creation time means that it was lost and made again.
create table bus_state (
    stream     text        primary key,
    created_at timestamptz not null
);
