-- Whether anybody keeps an unsigned text about a case, which DescribeReading answers from now on; in the row of the
-- reading, so that whoever is shown no draft reads none. Whoever keeps what was answered before hears of it anew.
alter table readings add column drafted boolean not null default false;
update readings set drafted = true, version = version + 1
    where exists (select from drafts where drafts.case_id = readings.case_id);
