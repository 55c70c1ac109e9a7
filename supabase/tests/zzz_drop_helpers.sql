-- Leaves the database as 000_helpers.sql found it.
begin;
select plan(1);
set local client_min_messages = warning;

drop schema clearfloor_tests cascade;
select hasnt_schema('clearfloor_tests', 'the helpers are gone');

select * from finish();
commit;
