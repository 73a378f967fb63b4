-- Later ends that access grants anew, which contact a code went to, and who changed a policy last.

-- Set while access is asked for a later end under this version; until then the bucket is as it was.
alter table buckets add column lengthening_since timestamptz;
create index buckets_lengthening on buckets (lengthening_since) where lengthening_since is not null;

-- Access's version of the recipient's contact to which a code was sent. What was sent before there was one went to
-- the first.
alter table codes add column contact_version bigint not null default 1;
alter table sessions add column contact_version bigint not null default 1;

-- A policy that the version before this one saved has version 1; who did and when is not known.
alter table policies
    add column version bigint not null default 1,
    add column changed_by text not null default '',
    add column changed_at timestamptz;
