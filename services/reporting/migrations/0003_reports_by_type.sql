-- What a side is shown is found by read type: how many reports of other types there are costs it nothing.
create index reports_by_type on reports (case_id, read_type, completed_at);
