-- Tokens that name no organization, or not where Supabase Auth lets nobody but the server write: they open nothing anywhere.
begin;
select plan(7);
call clearfloor_tests.create_world();

insert into clearfloor_tests.users (name, claims) values
('empty', clearfloor_tests.claims('empty', '{"organization_id": ""}')),
('null', clearfloor_tests.claims('null', '{"organization_id": null}')),
('user metadata', clearfloor_tests.claims('user metadata', user_metadata => clearfloor_tests.speaks_for('acme', 'owner'))),
('top level', clearfloor_tests.claims('top level') || clearfloor_tests.speaks_for('acme', 'authenticated')),
('no metadata', clearfloor_tests.claims('no metadata') - 'app_metadata'),
('no token', null);

create temp table tenant_tables as
select distinct tablename::text as table_name from pg_policies where schemaname = 'public';
create function pg_temp.opened_by(token text) returns setof text language sql as $$
    select table_name from tenant_tables
    where clearfloor_tests.access_of(table_name, token) <> 'selects none, inserts none, updates none, deletes none'
$$;

select is_empty(format('select pg_temp.opened_by(%L)', token), format('%s opens nothing anywhere', what))
from (values
    ('empty', 'an organization that is empty'),
    ('null', 'an organization that is null'),
    ('user metadata', 'an organization that a user wrote into its own metadata'),
    ('top level', 'an organization beside app_metadata'),
    ('no metadata', 'a token without app_metadata'),
    ('no token', 'a request without a token')
) as tokens (token, what);
select set_eq(
    'select pg_temp.opened_by(''member of acme'')', 'select table_name from tenant_tables',
    'a member''s token opens every table that has policies'
);

select * from finish();
rollback;
