-- Moves: who is shown what while a case moves, and which case may move without a hand.

-- `move_id`: the case is being moved, and is shown to nobody until routing says whether the move was made.
-- `untouched`: since it was indexed nobody was granted the case, no folder or share held it, nobody moved it by hand,
-- and no image of it was shown. False where the version before indexed it, for that did not note these.
alter table cases
    add column move_id uuid,
    add column move_begun_at timestamptz,
    add column untouched boolean not null default false;
create index cases_being_moved on cases (case_id) where move_id is not null;

-- Whether reporting keeps an unsigned text; the same in both rows of a case.
alter table readings add column drafted boolean not null default false;
