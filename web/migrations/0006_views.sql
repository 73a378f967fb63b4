-- Lists that a login session looked at: what was searched for, the order and the page. An address names one by its id, so that
-- going back works and no patient stands in it. They go with the session.
create table views (
    view_id uuid primary key,
    session_id uuid not null references sessions on delete cascade,
    search text not null,
    sorted_by text not null,
    is_ascending boolean not null,
    page_token text not null,
    made_at timestamptz not null
);
create index views_by_session on views (session_id, made_at);

-- The list that those cases are of; null: the one that everybody begins with.
alter table shown_lists add column view_id uuid;

-- Whether single letters do something on lists.
alter table preferences add column has_keys boolean not null default true;
