-- Somebody whom this browser sent to the provider of identities, until they come back; or whom the provider has named, and
-- who signs in as nobody yet. Of the cookie only its digest is kept. A row counts for ten minutes.
create table sign_ins (
    browser_digest bytea primary key check (length(browser_digest) = 32),
    state text not null,
    nonce text not null,
    verifier text not null, -- of PKCE (RFC 7636)
    back_to text not null,
    subject text, -- once the provider has named them
    began_at timestamptz not null
);
create index sign_ins_by_time on sign_ins (began_at);

-- How the provider calls the session there (its claim `sid`), so that it can end ours.
alter table sessions add column provider_session text;
