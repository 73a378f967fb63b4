-- DescribeReading answers from now on whether a case is drafted: whoever keeps what it answered before hears anew of
-- those that are.
update readings set version = version + 1
    where exists (select from drafts where drafts.case_id = readings.case_id);
