-- What was refused, or kept though it is odd: one row for what has all of the unique columns in common.
create table refusals (
    number integer primary key,
    kind text not null check (kind in ('handshake', 'association', 'context', 'instance', 'odd')),
    cause text not null,
    listener text not null,
    remote text not null,  -- address, without the port
    calling_ae_title text not null,  -- as it came
    called_ae_title text not null,
    uid text not null,  -- of the instance, or of the SOP class of a context
    reason text not null,
    times integer not null default 1,
    first_at real not null,
    last_at real not null,
    unique (kind, cause, remote, calling_ae_title, called_ae_title, uid)
) strict;
create index refusals_by_time on refusals (kind, last_at);

-- Rows of `refusals` make way for newer ones; these count on.
create table refusal_totals (
    kind text not null,
    cause text not null,
    times integer not null,
    primary key (kind, cause)
) strict;

-- What a person searches kept studies by: what came last, as text. Absent where the version before received it,
-- until somebody looks.
create table studies (
    study_instance_uid text not null,
    calling_ae_title text not null,
    patient_name text not null,
    patient_id text not null,
    accession_number text not null,
    study_date text not null,
    primary key (study_instance_uid, calling_ae_title)
) strict;

-- What the version before kept of refused senders, without causes.
insert into refusals (kind, cause, listener, remote, calling_ae_title, called_ae_title, uid, reason,
                      times, first_at, last_at)
select case action when 'handshake.refused' then 'handshake' else 'association' end, 'before', max(listener),
    rtrim(rtrim(remote, '0123456789'), ':'), calling_ae_title, called_ae_title, '', max(reason),
    count(*), min(at), max(at)
from audit_rows where outcome = 'refused' group by 1, 4, 5, 6;
insert into refusal_totals (kind, cause, times)
select kind, cause, sum(times) from refusals group by kind, cause;
