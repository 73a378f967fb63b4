-- Dead letters are listed by page, newest first, and forgotten by age.
create index dead_letters_by_age on dead_letters (first_failed_at, event_id);
