-- rate_snapshots: what was learned. Written once by the functions of clearfloor_writer, for the backend to read.
begin;
select plan(16);
call clearfloor_tests.create_world();

select clearfloor_tests.grants_are('rate_snapshots', role, commands)
from (values
    ('anon',              'nothing'),
    ('authenticated',     'nothing'),
    ('service_role',      'select'),
    ('clearfloor_writer', 'select, insert')
) as expected (role, commands);

-- Whose rows each comes to: anon and users by the policies alone, as if granted every command; service_role by its grants.
select clearfloor_tests.access_is('rate_snapshots', actor, selects, inserts, updates, deletes)
from (values
    --                          selects    inserts    updates    deletes
    ('anon',                    'none',    'none',    'none',    'none'),
    ('member of acme',          'none',    'none',    'none',    'none'),
    ('owner of acme',           'none',    'none',    'none',    'none'),
    ('member of zenith',        'none',    'none',    'none',    'none'),
    ('user of no organization', 'none',    'none',    'none',    'none'),
    ('anonymous user',          'none',    'none',    'none',    'none'),
    ('anonymous user of acme',  'none',    'none',    'none',    'none'),
    ('service_role',            'all',     'refused', 'refused', 'refused')
) as expected (actor, selects, inserts, updates, deletes);

select * from finish();
rollback;
