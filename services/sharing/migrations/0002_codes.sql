-- One-time codes: what is kept of them, tries, texts that count, and login sessions in which one was redeemed.

-- Tries since the last success: counted before they are judged. `wrong_codes` of them were judged wrong.
alter table buckets add column tries smallint not null default 0 check (tries between 0 and 5);
alter table buckets add column tried_at timestamptz;
create index buckets_out_of_tries on buckets (bucket_id) where state = 'active' and tries >= 5;

-- The last code that was sent for a bucket to a login session, until it is used; it expires after 10 minutes.
create table codes (
    bucket_id uuid references buckets on delete cascade,
    session text,
    otp_digest bytea not null check (length(otp_digest) = 32),  -- HMAC-SHA-256 under the pepper
    created_at timestamptz not null,
    lapsed boolean not null,                 -- seen expired: it stays so, wherever the clock goes
    primary key (bucket_id, session)
);
create index codes_to_lapse on codes (created_at) where not lapsed;

-- Texts that were or are being handed over; they count for a day, also when their bucket is gone.
create table texts_sent (
    text_id uuid primary key,
    bucket_id uuid not null,
    number_digest bytea not null check (length(number_digest) = 32),  -- HMAC-SHA-256 under the pepper
    sent_at timestamptz not null
);
create index texts_sent_by_bucket on texts_sent (bucket_id);
create index texts_sent_by_number on texts_sent (number_digest);
create index texts_sent_by_time on texts_sent (sent_at);

-- Login sessions in which a two-factor bucket gives sight; access is told until it has accepted.
create table sessions (
    bucket_id uuid references buckets on delete cascade,
    session text,
    redeemed_at timestamptz not null,
    accepted boolean not null,
    primary key (bucket_id, session)
);
create index sessions_to_tell on sessions (bucket_id) where not accepted;
