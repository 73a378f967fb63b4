-- Who changed what last, so that nothing is overwritten unseen (A68), and which contact a code was sent to.

-- `contact_version` grows when the e-mail address or the mobile number changes. `changed_by` and `changed_at`
-- belong to `version`; empty and null where the version before this one wrote it.
alter table users
    add column contact_version bigint not null default 1,
    add column changed_by text not null default '',
    add column changed_at timestamptz;

-- The last change of each privilege, kept when it is taken away, so that no version comes twice. A privilege
-- without a row here was given by the version before and has version 1.
create table privilege_changes (
    user_id uuid not null references users,
    facility_id uuid not null references facilities,
    version bigint not null,
    changed_by text not null,
    changed_at timestamptz not null,
    primary key (user_id, facility_id)
);
